. /host/scenarios/dma-buf/dom0.sh
