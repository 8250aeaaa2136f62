/** Names of all rows of the default plan, in order. */
export const ALL_ROWS = [
  'rc send',
  'rc write',
  'rc write-imm',
  'rc read',
  'rc fetch-add',
  'rc cmp-swap',
  'uc send',
  'uc write',
  'uc write-imm',
  'ud send',
  'tcp blocking',
  'tcp busy-polling',
  'udp blocking',
  'udp busy-polling',
];
