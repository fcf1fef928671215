. /host/scenarios/importer/dom0.sh
