/*
 * crc32.h - the CRC of RoCE's ICRC (the zlib polynomial, reflected), as a running state.
 *
 * Start with SR_CRC32_INIT, feed any number of pieces, finish with ~state. Written here because the packaged libraries
 * either come without a static archive or need one more run-time dependency, and this is 100 lines.
 */
#ifndef SR_WIRE_CRC32_H
#define SR_WIRE_CRC32_H
#include <stddef.h>
#include <stdint.h>

#define SR_CRC32_INIT 0xffffffffu
#define SR_CRC32_POLY 0xedb88320u /* bit-reversed */

/* Continues `state` over len bytes. Uses carry-less multiplication where the CPU has it, tables otherwise. */
uint32_t sr_crc32(uint32_t state, const void *buf, size_t len);

/* The table-only variant; for CPUs without PCLMULQDQ, and for tests. */
uint32_t sr_crc32_portable(uint32_t state, const void *buf, size_t len);
#endif
