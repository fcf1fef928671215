. /host/scenarios/boot/dom0.sh
