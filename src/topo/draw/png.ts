/** SVG to PNG through resvg, without a browser. */

import { RdmakitError } from '../../errors.ts';

/** Above this many pixels a picture is scaled down: 12 000 x 6 000 is 288 MB of memory. */
const MAX_PIXELS = 40e6;

/** The picture as PNG bytes, `scale` times the size of the SVG. Fonts are the system's. */
export async function toPng(svg: string, scale = 1): Promise<Uint8Array> {
  const size = /^<svg [^>]*width="(\d+)" height="(\d+)"/.exec(svg);
  const [width, height] = [Number(size?.[1] ?? 1000), Number(size?.[2] ?? 1000)];
  const most = Math.sqrt(MAX_PIXELS / (width * height));
  try {
    const { Resvg } = await import('@resvg/resvg-js');
    const picture = new Resvg(svg, {
      fitTo: { mode: 'zoom', value: Math.min(scale, most) },
      font: { loadSystemFonts: true },
    });
    return picture.render().asPng();
  } catch (error) {
    throw new RdmakitError({
      kind: 'environment',
      what: 'cannot draw the PNG',
      cause: (error as Error).message,
      remedy: 'install the renderer with: npm install @resvg/resvg-js; or draw SVG',
      from: error,
    });
  }
}
