internal import XenGrant
