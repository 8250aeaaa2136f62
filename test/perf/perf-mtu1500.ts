/** Two namespaces over veth with an MTU of 1500 bytes. */

import type { Effort, Plan } from './harness.ts';
import { namespacesPlan } from './namespaces.ts';

export const plan = (effort: Effort): Plan => namespacesPlan(1500, effort);
