package gpu

// What several rows advise.
const (
	reset       = "Stop what runs on it and reset it: `nvidia-smi --gpu-reset -i <index>`"
	resetOrBoot = "Stop what runs on it and reset it, or reboot the host if that hangs: `nvidia-smi --gpu-reset -i <index>`"
	resetLinked = "Stop what runs on the GPUs that are linked with it, then reset them all together: `nvidia-smi --gpu-reset`"
	maintain    = "Nothing is to be done now; reset it at the next maintenance: `nvidia-smi --gpu-reset -i <index>`"
	support     = "Stop what runs on it, reset it, and ask NVIDIA's support if it returns: `nvidia-smi --gpu-reset -i <index>`"
)

// Exceptions of several rows.
const (
	ifContained = "when it comes with Xid 94 or 63, which say that it was contained, and the driver's recovery action reads 0"
	ifContent   = "when the driver's recovery action reads 0: told only"
)

// memoryRow knows the faults of a GPU's memory (gpu.md §1.2).
func memoryRow(code int) (Row, bool) {
	switch code {
	case 48:
		return except(ifContained)(hold(ScopeGPU, "has an uncorrectable memory error", "WORKFLOW_XID_48: RESET_GPU, with 63 or 64 drain first", reset))
	case 63:
		return from(oursQuiet + ": it is safe to keep running until the next reset")(
			note(ScopeGPU, "a bad row of memory was marked for replacement", "IGNORE", maintain))
	case 64:
		return hold(ScopeGPU, "could not record the replacement of a bad row of memory", "RESET_GPU / CONTACT_SUPPORT",
			"Stop what runs on it and reset it, and have the board replaced if it returns: `nvidia-smi --gpu-reset -i <index>`")
	case 92:
		return note(ScopeGPU, "many corrected memory errors", "IGNORE / CONTACT_SUPPORT", ifMany)
	case 93:
		return note(ScopeGPU, "wear limit of the board's InfoROM", "IGNORE / CONTACT_SUPPORT", ifMany)
	case 95:
		return except("when its line says that no reset is needed (RST and D-RST: No) and the driver's recovery action reads 0: told only")(
			hold(ScopeGPU, "has an uncontained memory error", "RESET_GPU",
				"Trust no result of any program on it; stop what runs on it and reset it: `nvidia-smi --gpu-reset -i <index>`"))
	case 140:
		return hold(ScopeGPU, "has an unrecovered memory error", "RESET_GPU / CONTACT_SUPPORT", support)
	case 156:
		return except(ifContent)(from(catalog + "; ours: the driver knows best whether that is enough")(
			hold(ScopeGPU, "retired a broken part", "RESET_GPU / IGNORE", reset)))
	case 157:
		return from(catalog + "; ours: held, since a part that could not be retired is used on")(
			hold(ScopeGPU, "could not retire a broken part", "IGNORE / CONTACT_SUPPORT", support))
	case 168:
		return soft(from(silent + "told only, since a restart may help")(hold(ScopeGPU, "has lost part of its memory", "",
			"Expect that a model no longer fits after a restart, and have the board checked at the next maintenance: `nvidia-smi -q -d MEMORY -i <index>`")))
	case 171, 172:
		return except(ifContained)(from(silent + "a detail of Xid 48, so treated like it")(hold(ScopeGPU, "has an uncorrectable memory error", "", reset)))
	case 175:
		return from(header + "held, as other errors of memory")(hold(ScopeGPU, "has an error of its memory subsystem", "", reset))
	}
	return Row{}, false
}

// stuckRow knows the GPUs that stopped, and their firmware.
func stuckRow(code int) (Row, bool) {
	switch code {
	case 46:
		return hold(ScopeGPU, "stopped processing", "RESET_GPU", reset)
	case 62:
		return hold(ScopeGPU, "has a halted internal controller", "RESET_GPU", reset)
	case 109:
		return except(ifContent)(from(catalog + "; ours: the Kubernetes device plugin ignores it, and the driver knows best")(
			hold(ScopeGPU, "could not switch between programs in time", "RESET_GPU", reset)))
	case 110:
		return hold(ScopeGPU, "has a security fault", "RESET_GPU / INVESTIGATE_SW", reset)
	case 119:
		return hold(ScopeGPU, "has firmware (GSP) that does not answer", "RESET_GPU / INVESTIGATE_SW", resetOrBoot)
	case 120:
		return hold(ScopeGPU, "has a firmware (GSP) error", "RESET_GPU / INVESTIGATE_SW", resetOrBoot)
	case xidInit:
		return hold(ScopeGPU, "could not be initialised", "RESET_GPU", resetOrBoot)
	case 158:
		return hold(ScopeGPU, "has a fatal timeout", "RESET_GPU", reset)
	case 159:
		return hold(ScopeGPU, "has an error on its link with the CPU (CHI)", "CHECK_UVM", support)
	case 162, 163, 164, 165:
		return from(silent + "told only, since it concerns the power supply's smoothing")(
			note(ScopeGPU, "report of the power smoothing circuit", "", ifMany))
	case 169:
		return from(silent + "held, since an internal controller stands still")(
			hold(ScopeGPU, "has a halted security controller (SEC2)", "", reset))
	case 174:
		return from(header + "told only, since the programs that it concerns end by themselves")(
			note(ScopeGPU, "channel ended silently", "", noAction))
	case 176:
		return from(header + "told only, since it was corrected")(
			note(ScopeGPU, "corrected PCIe error", "", "If it is often reported, check the seat of the board and its slot: `lspci -vv -d 10de:`"))
	}
	return Row{}, false
}

// linkRow knows the links between GPUs, and between GPU and CPU.
func linkRow(code int) (Row, bool) {
	switch code {
	case 74:
		return except("for containers on one GPU, and when it comes once, without another link error and without one in a container's log: told only")(
			from(catalog + "; ours: a single link error is mended by the link")(
				hold(ScopeGPU, "has an NVLink error", "WORKFLOW_NVLINK_ERR: reset, reboot, then support", resetLinked)))
	case 108:
		return note(ScopeGPU, "NVLink address translation error of another GPU", "IGNORE", noAction)
	case 121:
		return from(oursQuiet)(note(ScopeGPU, "corrected error on the link between chips (C2C)", "IGNORE / CONTACT_SUPPORT", ifMany))
	case 136:
		return hold(ScopeGPU, "could not train an NVLink", "RESET_GPU / link signal integrity", resetLinked)
	case 137:
		return note(ScopeGPU, "NVLink privilege error after a fault of a program on another GPU", "XID_137_FLOW", noAction)
	case 144, 145, 146, 147, 148, 149, 150:
		return except("for containers on one GPU, when its line says Nonfatal, and when it says neither word and the driver's recovery action reads 0: told only")(
			from(catalog + "; ours: the line has a word for how severe it is")(
				hold(ScopeGPU, "has an NVLink error", "WORKFLOW_NVLINK5_ERR", resetLinked)))
	case 155:
		return hold(ScopeGPU, "has an NVLink error that its software reports", "RESET_GPU", resetLinked)
	case 166, 170:
		return from(silent + "held, since its links cannot be used in this mode")(
			hold(ScopeGPU, "has an NVLink error in confidential computing", "", resetLinked))
	case 173:
		return from(header + "held, since it is named fatal")(
			hold(ScopeGPU, "has a fatal error on its link between chips (C2C)", "", resetOrBoot))
	}
	return Row{}, false
}
