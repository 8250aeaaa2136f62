/**
 * Finds and opens the native libraries, once per process.
 *
 * Which verbs library answers is decided here and nowhere else. The order of
 * opening matters: glibc resolves the DT_NEEDED entry "libibverbs.so.1" of our
 * data path library to whichever library of that SONAME was loaded first, so the
 * chosen libibverbs is always opened before anything that depends on it.
 *
 * The handles stay in module variables: a collected handle would unload code
 * under running threads.
 */

import { accessSync, constants, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import koffi, { type LibraryHandle } from 'koffi';
import { RdmakitError } from '../src/errors.ts';
import { libraryFolder, PROVIDER_VARIABLE, requireLibrary, softLibraryFolder } from './paths.ts';
import { verifyLayouts } from './struct.ts';

/** What the caller asks for. */
export interface LoadOptions {
  /** system or soft; with auto, or none, RDMAKIT_PROVIDER decides, then whichever library has a device. */
  readonly provider?: string;
  /** Folder of our native libraries; RDMAKIT_LIB_DIR or the package's own when absent. */
  readonly libDir?: string;
}

/** What was opened, and why. */
export interface LoadedVerbs {
  readonly provider: 'system' | 'soft';
  /** Why this provider, in words for people. */
  readonly reason: string;
  /** Path, or SONAME for the system's. */
  readonly path: string;
  readonly libDir: string;
  readonly handle: LibraryHandle;
}

const SYSTEM_SONAME = 'libibverbs.so.1';
const PROVIDERS = ['auto', 'system', 'soft'] as const;
type Choice = (typeof PROVIDERS)[number];

let loaded: LoadedVerbs | undefined;
let loadedFor: Choice | undefined;
const others = new Map<string, LibraryHandle>();

/**
 * The provider asked for. An argument of "auto" states no wish: then RDMAKIT_PROVIDER
 * decides, and without it auto. Throws on a name that does not exist.
 */
export function providerChoice(argument?: string): Choice {
  const wish = argument === 'auto' ? undefined : argument;
  const fromEnvironment = process.env[PROVIDER_VARIABLE];
  const wanted = wish ?? (fromEnvironment === '' ? undefined : fromEnvironment) ?? 'auto';
  const choice = PROVIDERS.find((name) => name === wanted);
  if (choice !== undefined) return choice;
  const where = wish === undefined ? PROVIDER_VARIABLE : 'the provider';
  throw new RdmakitError({
    kind: 'usage',
    what: `${where} is "${wanted}", which is no provider`,
    remedy: `use one of ${PROVIDERS.join(', ')}`,
  });
}

/**
 * Opens the verbs library, or returns the one that is open.
 *
 * A process has one verbs library for its whole life; asking for the other one
 * afterwards is an error.
 */
export function loadVerbs(options: LoadOptions = {}): LoadedVerbs {
  if (loaded !== undefined && options.provider === undefined) return loaded;
  const choice = providerChoice(options.provider);
  if (loaded !== undefined) {
    if (choice === 'auto' || choice === loaded.provider || choice === loadedFor) return loaded;
    throw new RdmakitError({
      kind: 'usage',
      what: `the ${choice} verbs library cannot be opened after the ${loaded.provider} one`,
      cause: 'a process has one libibverbs for its whole life',
      remedy: `choose the provider at the start: --provider ${choice} or ${PROVIDER_VARIABLE}=${choice}`,
    });
  }
  if (process.platform !== 'linux') {
    throw new RdmakitError({
      kind: 'environment',
      what: `RDMA verbs need Linux, this is ${process.platform}`,
      remedy: 'run rdmakit on Linux',
    });
  }
  verifyLayouts();
  const libDir = libraryFolder(options.libDir);
  const opened = choice === 'soft' ? openSoft(libDir, 'asked for') : openSystemOr(choice, libDir);
  loaded = opened;
  loadedFor = choice;
  return opened;
}

/** The open verbs library, if any, without opening one. */
export function loadedVerbs(): LoadedVerbs | undefined {
  return loaded;
}

/** Opens librdmacm of the same provider as the verbs library. */
export function loadRdmacm(options: LoadOptions = {}): LibraryHandle {
  return openOnce(rdmacmPath(options));
}

/** What dlopen() finds that librdmacm by. */
export function rdmacmPath(options: LoadOptions = {}): string {
  const verbs = loadVerbs(options);
  return verbs.provider === 'soft'
    ? join(softLibraryFolder(verbs.libDir), 'librdmacm.so.1')
    : 'librdmacm.so.1';
}

/** Opens our data path library on top of the chosen verbs library. */
export function loadDatapathLibrary(options: LoadOptions = {}): LibraryHandle {
  const verbs = loadVerbs(options);
  return openOnce(join(verbs.libDir, 'librdmakit_datapath.so'));
}

/** Opens the C library, for memory and descriptors. */
export function loadLibc(): LibraryHandle {
  return openOnce('libc.so.6');
}

function openOnce(path: string): LibraryHandle {
  const known = others.get(path);
  if (known !== undefined) return known;
  const handle = open(path.includes('/') ? requireLibrary(path) : path);
  others.set(path, handle);
  return handle;
}

function openSoft(libDir: string, reason: string): LoadedVerbs {
  const path = requireLibrary(join(softLibraryFolder(libDir), SYSTEM_SONAME));
  return { provider: 'soft', reason, path, libDir, handle: open(path) };
}

function openSystemOr(choice: 'system' | 'auto', libDir: string): LoadedVerbs {
  const nodes = usableDeviceNodes();
  if (choice === 'auto' && nodes.usable.length === 0) return openSoft(libDir, nodes.reason);
  const handle = open(SYSTEM_SONAME);
  const system: LoadedVerbs = {
    provider: 'system',
    reason: nodes.reason,
    path: SYSTEM_SONAME,
    libDir,
    handle,
  };
  if (choice === 'system') return { ...system, reason: 'asked for' };
  if (countDevices(handle) > 0) return system;
  // Nothing of the system's library may stay mapped, or the data path would bind to it.
  handle.unload();
  if (readFileSync('/proc/self/maps', 'utf8').includes(SYSTEM_SONAME)) {
    throw new RdmakitError({
      kind: 'environment',
      what: "the system's libibverbs lists no device and cannot be unloaded again",
      cause: nodes.reason,
      remedy: `choose the embedded device from the start: --provider soft or ${PROVIDER_VARIABLE}=soft`,
    });
  }
  return openSoft(libDir, `${nodes.reason}, but the system's libibverbs lists no device`);
}

/**
 * Looks for RDMA devices of the kernel without loading the system's library:
 * once loaded it would be the one that our data path binds to.
 */
function usableDeviceNodes(): { usable: string[]; reason: string } {
  let nodes: string[];
  try {
    nodes = readdirSync('/sys/class/infiniband_verbs').filter((name) => name.startsWith('uverbs'));
  } catch {
    return {
      usable: [],
      reason: 'the kernel has no RDMA device (/sys/class/infiniband_verbs does not exist)',
    };
  }
  if (nodes.length === 0) {
    return { usable: [], reason: 'the kernel has no RDMA device (/sys/class/infiniband_verbs is empty)' };
  }
  const usable = nodes.filter((name) => mayOpen(`/dev/infiniband/${name}`));
  if (usable.length === 0) {
    return {
      usable,
      reason: `the kernel has ${nodes.join(', ')}, but /dev/infiniband does not let this user open it`,
    };
  }
  return { usable, reason: `the kernel has ${usable.join(', ')}` };
}

function mayOpen(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function countDevices(handle: LibraryHandle): number {
  const list = handle.func('ibv_get_device_list', 'void *', ['void *']);
  const free = handle.func('ibv_free_device_list', 'void', ['void *']);
  const count = new Int32Array(new ArrayBuffer(4));
  const devices: unknown = list(count);
  if (devices === null) return 0;
  free(devices);
  return count[0] ?? 0;
}

function open(path: string): LibraryHandle {
  try {
    return koffi.load(path);
  } catch (error) {
    const own = path.includes('/');
    throw new RdmakitError({
      kind: 'environment',
      what: `${path} cannot be loaded`,
      cause: error instanceof Error ? error.message : String(error),
      remedy: own ? 'make -C c' : 'apt install libibverbs1 librdmacm1, or --provider soft',
      from: error,
    });
  }
}
