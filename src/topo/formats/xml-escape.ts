/** Writing XML needs no parser: kept apart, so that drawing does not load one. */

const ESCAPES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
  '\n': '&#10;',
  '\t': '&#9;',
};

/** Text for element content or a quoted attribute. */
export function escapeXml(text: string | number): string {
  return String(text).replace(/[&<>"'\n\t]/g, (char) => ESCAPES[char] ?? char);
}
