package gpu

// hostRow knows what only a reboot or hands on the machine mend (gpu.md §1.3),
// and the messages that stand beside them there and mean nothing.
func hostRow(code int) (Row, bool) {
	switch code {
	case 14:
		return note(ScopeNone, "an unused message", "IGNORE", noAction)
	case 54:
		return hold(ScopeHost, "has no auxiliary power", "CHECK_MECHANICALS",
			"Shut the host down with `poweroff`, and plug in the power cables of the board")
	case 78:
		return hold(ScopeHost, "could not start a virtual GPU", "UPDATE_SWFW",
			"Bring the vGPU driver and firmware of host and guest to versions that fit, then `reboot`")
	case xidBus:
		return hold(ScopeHost, "has fallen off the bus", "RESTART_BM",
			"Stop nothing on it, since that can hang; `reboot`, and cut the power for a minute or reseat the board if it returns")
	case 106, 107:
		return note(ScopeNone, "test message of the management bus (SMBPBI)", "IGNORE", noAction)
	case 142:
		return soft(from(catalog + "; ours: told only, since it concerns one video encoder")(
			hold(ScopeHost, "has a fault of its video encoder (NVENC3)", "CONTACT_SUPPORT",
				"If video encoding fails, ask NVIDIA's support with the file of `nvidia-bug-report.sh`")))
	case 151:
		return hold(ScopeHost, "could not renew its keys for confidential computing", "RESTART_VM", "Restart the virtual machine: `reboot`")
	case xidState:
		return except("with 0x0, which ends what was held for a fault before, and with 0x3 and 0x5 (P2P, IMEX), which concern only containers on several GPUs")(
			from(catalog + "; ours: the value in the line decides, never its words")(
				hold(ScopeHost, "asks for another recovery action", "take the action in the message", "See what the driver asks for: `nvidia-smi -q -i <index>`")))
	case 167:
		return from(silent + "treated like Xid 79, since the bus does not answer")(
			hold(ScopeHost, "has a fatal PCIe timeout", "",
				"Stop nothing on it, since that can hang; `reboot`, and cut the power for a minute or reseat the board if it returns"))
	}
	return Row{}, false
}
