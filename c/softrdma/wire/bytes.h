/* bytes.h - unaligned big-endian (and one little-endian) loads and stores for packet fields. */
#ifndef SR_WIRE_BYTES_H
#define SR_WIRE_BYTES_H
#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t sr_get16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return be16toh(v); }
static inline uint32_t sr_get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return be32toh(v); }
static inline uint64_t sr_get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return be64toh(v); }
static inline uint32_t sr_get32le(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return le32toh(v); }
static inline void sr_put16(uint8_t *p, uint16_t v) { v = htobe16(v); memcpy(p, &v, 2); }
static inline void sr_put32(uint8_t *p, uint32_t v) { v = htobe32(v); memcpy(p, &v, 4); }
static inline void sr_put64(uint8_t *p, uint64_t v) { v = htobe64(v); memcpy(p, &v, 8); }
static inline void sr_put32le(uint8_t *p, uint32_t v) { v = htole32(v); memcpy(p, &v, 4); }
#endif
