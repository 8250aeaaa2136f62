/*
 * list.c - the exported calls that list devices and tell their names.
 */
#include <stdlib.h>
#include "device.h"

/* Devices of this network namespace, NULL-terminated; free with ibv_free_device_list(). NULL and errno on failure. */
struct ibv_device **ibv_get_device_list(int *num_devices)
{
	int n = 0;
	struct ibv_device **list = sr_device_list(&n);
	if (num_devices)
		*num_devices = n;
	return list;
}

/* Gives the list back. Devices that were not opened may vanish. */
void ibv_free_device_list(struct ibv_device **list)
{
	if (!list)
		return;
	for (struct ibv_device **d = list; *d; d++)
		sr_device_put(sr_dev(*d));
	free(list);
}

/* Name of the device, valid as long as the device is. */
const char *ibv_get_device_name(struct ibv_device *device)
{
	return device->name;
}

/* A number that tells the devices of one namespace apart: the interface's index. */
int ibv_get_device_index(struct ibv_device *device)
{
	return (int)sr_dev(device)->link.ifindex;
}

/* Node GUID in network byte order. */
__be64 ibv_get_device_guid(struct ibv_device *device)
{
	return sr_dev(device)->guid;
}
