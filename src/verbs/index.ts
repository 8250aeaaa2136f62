/** The verbs layer's public surface; see each module for the contract. */
export * from './types.ts';
