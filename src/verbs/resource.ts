/**
 * Ownership of native objects: who may close what, and when.
 *
 * A native object is closed once, explicitly, and never before the objects made
 * from it: libibverbs would answer EBUSY at best and crash at worst. Parents know
 * their children, so a wrong order is an error that names the culprits.
 */

import { callFailure, failure } from './doctor.ts';
import type { Handle } from './types.ts';

/** A native object with an owner. `close()` may be called any number of times. */
export abstract class Resource {
  /** What it is, for messages: `queue pair 17`. */
  readonly label: string;
  readonly #parents: readonly Resource[];
  readonly #children = new Set<Resource>();
  #handle: Handle;
  #open = true;

  protected constructor(label: string, handle: Handle, parents: readonly Resource[]) {
    this.label = label;
    this.#handle = handle;
    this.#parents = [...new Set(parents)];
    for (const parent of this.#parents) parent.#children.add(this);
  }

  /** Address of the C object; throws once it is closed. */
  get handle(): Handle {
    if (this.#open) return this.#handle;
    throw failure({ call: this.label, code: 'closed', attempt: `use ${this.label} after it was closed` });
  }

  /** Whether close() has been done. */
  get closed(): boolean {
    return !this.#open;
  }

  /** Frees the native object; returns an errno, 0 when it is gone. */
  protected abstract destroy(handle: Handle): number;

  /** The C function that {@link destroy} calls, for messages. */
  protected abstract readonly destroyCall: string;

  /**
   * Closes the object. A second call does nothing. Throws a VerbsError, and leaves
   * the object open, while objects made from it are open or when the library refuses.
   */
  close(): void {
    if (!this.#open) return;
    if (this.#children.size > 0) {
      const names = [...this.#children].map((child) => child.label);
      const shown =
        names.length > 4 ? `${names.slice(0, 4).join(', ')} and ${names.length - 4} more` : names.join(', ');
      throw failure({
        call: this.label,
        code: 'in-use',
        attempt: `close ${this.label}`,
        details: [`still open: ${shown}`],
      });
    }
    const errno = this.destroy(this.#handle);
    if (errno !== 0) throw callFailure(this.destroyCall, errno, { attempt: `close ${this.label}` });
    this.#open = false;
    for (const parent of this.#parents) parent.#children.delete(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Anything that can be closed. */
export interface Closable {
  close(): void;
}

/**
 * Closes what was added, newest first: the order that RDMA objects need. It is
 * for code that makes several objects and may fail half way.
 */
export class ResourceStack {
  readonly #items: Closable[] = [];

  /** Takes ownership and returns the object. */
  use<T extends Closable>(resource: T): T {
    this.#items.push(resource);
    return resource;
  }

  /** Runs an action in turn at close(). */
  defer(action: () => void): void {
    this.#items.push({ close: action });
  }

  /** Hands everything over to a new stack; this one is empty afterwards. */
  move(): ResourceStack {
    const next = new ResourceStack();
    next.#items.push(...this.#items.splice(0));
    return next;
  }

  /** Closes all, newest first, even when some fail; throws the first error. */
  close(): void {
    const errors: unknown[] = [];
    for (let item = this.#items.pop(); item !== undefined; item = this.#items.pop()) {
      try {
        item.close();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
