/* Decoder and encoder of RoCEv2 packets: whatever decodes must encode back to the same header bytes. */
#include <stdlib.h>
#include <string.h>
#include "softrdma/wire/icrc.h"
#include "softrdma/wire/packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sr_pkt p;
	uint8_t out[SR_HEADERS_MAX];
	if (sr_pkt_decode(&p, data, size) != SR_PKT_OK)
		return 0;
	size_t n = sr_pkt_encode(&p, out);
	if (n != p.header_len || memcmp(out, data, n) != 0 || n + p.payload_len + p.pad + SR_ICRC_BYTES != size)
		abort();
	static const uint8_t v4[16] = { [10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1 };
	struct sr_icrc_path path;
	sr_icrc_path_init(&path, v4, v4, 49152, SR_ROCE_PORT);
	sr_icrc_check(&path, 0, data, size, p.header_len, UINT16_MAX);
	return 0;
}
