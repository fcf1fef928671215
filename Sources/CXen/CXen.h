// The Xen libraries with a stable interface: grants, event channels, XenStore, the hypervisor's
// parameters, and their logger.
// Xen's headers use these types without including what defines them.
#include <stdbool.h>
#include <stdint.h>
#include <xen/grant_table.h>
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenhypfs.h>
#include <xenstore.h>
#include <xentoollog.h>
