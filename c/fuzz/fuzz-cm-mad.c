/* Any 256 bytes: decoding never reads elsewhere, and what it accepts is encoded and decoded to the same again. */
#include <stdlib.h>
#include <string.h>
#include "softrdma/cm/mad.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sr_cm_mad m, back;
	struct sr_cm_service s;
	struct sr_cm_ip ip;
	uint8_t mad[SR_CM_MAD_BYTES] = { 1, 7, 2, 3, [17] = SR_CM_REQ }, again[SR_CM_MAD_BYTES];
	if (size == 0)
		return 0;
	mad[17] = (uint8_t)(SR_CM_REQ + data[0] % 9);
	memcpy(mad + (data[0] & 0x80 ? 0 : 18), data + 1, size - 1 < sizeof(mad) - 18 ? size - 1 : sizeof(mad) - 18);
	(void)sr_cm_service_of(mad, &s);
	(void)sr_cm_receiver_id(mad);
	if (sr_cm_refusal(mad, again) && !sr_cm_decode(&back, again))
		abort();
	if (!sr_cm_decode(&m, mad))
		return 0;
	(void)sr_cm_ip_decode(&ip, m.private_data);
	if (!sr_cm_encode(&m, again) || !sr_cm_decode(&back, again) || memcmp(&m, &back, sizeof(m)) != 0)
		abort();
	return 0;
}
