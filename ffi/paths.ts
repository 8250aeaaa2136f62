/**
 * Where the native libraries lie: in the package's prebuilds folder, or where
 * RDMAKIT_LIB_DIR points.
 */

import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RdmakitError } from '../src/errors.ts';

/** Environment variable that names another folder with softrdma/ and librdmakit_datapath.so in it. */
export const LIB_DIR_VARIABLE = 'RDMAKIT_LIB_DIR';

/** Environment variable that chooses the provider: auto, system or soft. */
export const PROVIDER_VARIABLE = 'RDMAKIT_PROVIDER';

/** The package's top folder: the nearest one upwards that holds package.json. */
function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) return process.cwd();
    folder = parent;
  }
  return folder;
}

/** The folder that holds our native libraries: argument, then environment, then the package's own. */
export function libraryFolder(libDir?: string): string {
  const chosen = libDir ?? process.env[LIB_DIR_VARIABLE];
  if (chosen !== undefined && chosen !== '') return resolve(chosen);
  return join(packageRoot(), 'prebuilds', `linux-${process.arch}`);
}

/** The folder of the embedded device's libibverbs.so.1 and librdmacm.so.1: what LD_LIBRARY_PATH must begin with. */
export function softLibraryFolder(libDir?: string): string {
  return join(libraryFolder(libDir), 'softrdma');
}

/** The library that verbs-run preloads, so that programs find the devices in /sys/class/infiniband and /dev/infiniband. */
export function sysfsLibrary(libDir?: string): string {
  return join(libraryFolder(libDir), 'librdmakit_sysfs.so');
}

/** The library that socket-run preloads. */
export function socketLibrary(libDir?: string): string {
  return join(libraryFolder(libDir), 'librdmakit_vsocket.so');
}

/** The program that attends to what socket-run reports on. */
export function attendProgram(libDir?: string): string {
  return join(libraryFolder(libDir), 'rdmakit-attend');
}

/** Path of a native library of ours; throws with the remedy when the file is not there. */
export function requireLibrary(path: string): string {
  if (existsSync(path)) return path;
  const overridden = (process.env[LIB_DIR_VARIABLE] ?? '') !== '';
  throw new RdmakitError({
    kind: 'environment',
    what: `the native library ${path} does not exist`,
    cause: overridden
      ? `${LIB_DIR_VARIABLE} points at a folder without it`
      : `it was not built for ${process.platform}-${process.arch} yet`,
    remedy: overridden ? `point ${LIB_DIR_VARIABLE} at a folder that has it, or unset it` : 'make -C c',
  });
}
