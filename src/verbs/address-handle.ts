/** Address handles: where a UD queue pair's messages go. */

import { lastErrno } from '../../ffi/bind.ts';
import { libibverbs } from '../../ffi/libibverbs.ts';
import { Struct } from '../../ffi/struct.ts';
import { callFailure } from './doctor.ts';
import { Resource } from './resource.ts';
import { fillRoute, type RouteOptions } from './route.ts';
import type { Handle, PortAttributes } from './types.ts';

/** What `ProtectionDomain.createAh` takes. */
export interface AddressHandleOptions extends RouteOptions {
  readonly port?: number;
}

/** The way to one peer port. */
export class AddressHandle extends Resource {
  protected readonly destroyCall = 'ibv_destroy_ah';

  private constructor(handle: Handle, pd: Resource, gid: string) {
    super(`address handle to ${gid}`, handle, [pd]);
  }

  /** Use {@link ProtectionDomain.createAh}. */
  static create(pd: Resource, port: PortAttributes, options: AddressHandleOptions): AddressHandle {
    const attributes = new Struct('ibv_ah_attr');
    fillRoute(attributes, port, options);
    const handle = libibverbs.ibv_create_ah(pd.handle, attributes.bytes);
    if (handle === 0n) {
      throw callFailure('ibv_create_ah', lastErrno(), {
        attempt: `create an address handle to ${options.gid}`,
        details: [`source GID index ${options.gidIndex}`],
      });
    }
    return new AddressHandle(handle, pd, options.gid);
  }

  protected destroy(handle: Handle): number {
    return libibverbs.ibv_destroy_ah(handle);
  }
}
