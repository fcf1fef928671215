print("xen-zcopy")
