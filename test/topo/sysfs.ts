/** A folder that looks like sysfs, for tests. */

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';

export interface FakeSysfs {
  sys: string;
  file(path: string, text: string): void;
  /** A link from one place below sys to another. */
  link(path: string, target: string): void;
  /** A PCI function below devices/, with its entry on the bus. */
  device(path: string, files: Record<string, string>): void;
  remove(): void;
}

export function fakeSysfs(): FakeSysfs {
  const sys = mkdtempSync(join(tmpdir(), 'rdmakit-sys-'));
  const file = (path: string, text: string): void => {
    mkdirSync(dirname(join(sys, path)), { recursive: true });
    writeFileSync(join(sys, path), `${text}\n`);
  };
  const link = (path: string, target: string): void => {
    mkdirSync(dirname(join(sys, path)), { recursive: true });
    mkdirSync(join(sys, target), { recursive: true });
    symlinkSync(join(sys, target), join(sys, path));
  };
  return {
    sys,
    file,
    link,
    device(path, files) {
      for (const [name, text] of Object.entries(files)) file(`devices/${path}/${name}`, text);
      link(`bus/pci/devices/${basename(path)}`, `devices/${path}`);
    },
    remove: () => rmSync(sys, { recursive: true }),
  };
}
