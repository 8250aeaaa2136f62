/** The verbs layer's public surface; see each module for the contract. */

export { AddressHandle, type AddressHandleOptions } from './address-handle.ts';
export { CompletionChannel, CompletionQueue } from './completion.ts';
export {
  bringUp,
  type Connection,
  type ConnectOptions,
  connectInProcess,
  connectQueuePair,
  localEndpoint,
} from './connect.ts';
export {
  type AsyncEvent,
  Context,
  listDevices,
  type OpenOptions,
  openDevice,
  openLibrary,
} from './context.ts';
export { type Counters, counterChanges, counterEvidence, readCounters } from './counters.ts';
export {
  completionFailure,
  completionStatusName,
  type Diagnosis,
  diagnose,
  errnoName,
  explainCompletion,
  VerbsError,
} from './doctor.ts';
export { chooseGid, formatGid, type GidWishes, parseGid } from './gid.ts';
export { allocateMemory, HostMemory, MemoryRegion, type RegionOptions } from './memory.ts';
export { ProtectionDomain } from './protection-domain.ts';
export { type QpOptions, QueuePair } from './queue-pair.ts';
export { type Closable, Resource, ResourceStack } from './resource.ts';
export { type Message, Session, type WaitOptions } from './session.ts';
export { SharedReceiveQueue, type SrqOptions } from './shared-receive-queue.ts';
export {
  connect,
  type ListenOptions,
  listen,
  loopbackPair,
  type PeerOptions,
  SideServer,
} from './side-channel.ts';
export * from './types.ts';
