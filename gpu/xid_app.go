package gpu

// What several rows say.
const (
	ifAgain   = "Let defib restart it; if the same GPU does this with other containers too, have the board checked: `nvidia-smi -q -i <index>`"
	codecs    = "Let defib restart it; if it returns, update the driver and ask NVIDIA's support with the file of `nvidia-bug-report.sh`"
	noAction  = "Nothing is to be done for it; read what was reported before it: `dmesg | grep Xid`"
	ifMany    = "Nothing is to be done now; if it is often reported, ask NVIDIA's support with the file of `nvidia-bug-report.sh`"
	oursOwner = catalog + "; ours: gpud calls it fatal, but the catalog asks only for the application, and so do we"
	oursQuiet = catalog + "; ours: gpud calls it fatal, but the catalog asks for nothing, and so do we"
	oursSeen  = catalog + "; ours: the Kubernetes device plugin ignores it, but the program has lost its work, so it is restarted"
)

// appRow knows the faults of programs: only the process that is named is lost
// (gpu.md §1.1).
func appRow(code int) (Row, bool) {
	switch code {
	case 8:
		return app("GPU channel was idle for too long", "RESTART_APP / CONTACT_SUPPORT", ifAgain)
	case 11, 25, 80:
		return app("invalid or corrupt push buffer stream", "RESTART_APP / CHECK_APP", ifAgain)
	case 13:
		return from(oursSeen)(app("graphics or compute engine exception", "RESTART_APP / WORKFLOW_XID_13",
			"Look for a bug in the program, such as an access out of range; if it stays with the GPU, have the board checked: `nvidia-smi -q -i <index>`"))
	case 31:
		return from(oursSeen)(app("GPU memory page fault", "RESTART_APP / WORKFLOW_XID_31",
			"Look for a bug in the program, such as an illegal address; if it stays with the GPU, have the board checked: `nvidia-smi -q -i <index>`"))
	case 32:
		return from(oursOwner)(app("invalid or corrupt push buffer stream (PBDMA)", "RESTART_APP / CHECK_APP",
			"Let defib restart it; if it returns, check the seat and the signal of the PCIe slot: `lspci -vv -d 10de:`"))
	case 60:
		return app("exception of the video processor or SEC2", "RESTART_APP / INVESTIGATE_SW", codecs)
	case 69:
		return from(oursOwner)(app("engine class error", "RESTART_APP / CHECK_APP", ifAgain))
	case 94:
		return except("when its line asks for a reset (RST or D-RST: Yes) and the driver keeps no recovery action: the GPU is held")(from(catalog + "; ours: gpud and the Kubernetes device plugin give up the GPU, but the error is contained, so only its owner restarts")(
			app("contained uncorrectable memory error", "RESTART_APP / ignore if sympathetic",
				"Let defib restart the program that was hit; if a row remap is pending, reset the GPU at the next maintenance: `nvidia-smi --gpu-reset -i <index>`")))
	}
	return Row{}, false
}

// engineRow knows the faults of the units that copy and that code pictures.
func engineRow(code int) (Row, bool) {
	switch code {
	case 39, 40, 41, 70, 71, 72, 75, 76, 77, 85, 126, 127, 128, 129, 130, 131, 132, 133, 134, 135:
		return app("fault of a copy engine", "RESTART_APP / CONTACT_SUPPORT", ifAgain)
	case 68, 83, 84, 88, 89, 96, 97, 98:
		r, _ := app("fault of a video decoder (NVDEC)", "RESTART_APP / CONTACT_SUPPORT", codecs)
		if code == 68 {
			r.Source = oursSeen
		}
		return r, true
	case 82, 99, 100, 101, 102, 103, 104, 105:
		return app("fault of a JPEG decoder (NVJPG)", "RESTART_APP / CONTACT_SUPPORT", codecs)
	case 86, 139:
		return app("fault of an optical flow unit (OFA)", "RESTART_APP / CONTACT_SUPPORT", codecs)
	}
	return Row{}, false
}

// quietRow knows what is only told beside the faults of programs.
func quietRow(code int) (Row, bool) {
	switch code {
	case 37:
		return note(ScopeApp, "firmware method error", "IGNORE", noAction)
	case 38:
		return from(oursQuiet)(note(ScopeApp, "firmware watchdog error", "IGNORE", noAction))
	case 43:
		return except("when the container whose process it names fails, and nothing worse is reported: that is restarted for it")(from(catalog + "; ours: a container that failed with nothing but this is restarted")(
			note(ScopeApp, "GPU channel reset after the program's own fault", "IGNORE / CONTACT_SUPPORT",
				"Look for a bug in the program; its log says more: `docker logs --tail 200 <container>`")))
	case 44:
		return from(oursQuiet)(note(ScopeApp, "fault during a context switch", "IGNORE / CONTACT_SUPPORT", ifMany))
	case 45:
		return from(catalog + "; ours: told only, since it follows another Xid or the end of a process, also one that defib ended")(
			note(ScopeApp, "channels removed after an earlier error or the end of their process", "alone: RESTART_FM; else IGNORE", noAction))
	case 66, 67:
		return note(ScopeApp, "illegal register access by the driver", "IGNORE / investigate", ifMany)
	case 141:
		return note(ScopeApp, "report of the CUDA fast path", "IGNORE", noAction)
	case 152:
		return note(ScopeApp, "memory fault of a deep learning accelerator (DLA)", "IGNORE", noAction)
	case 153:
		return note(ScopeApp, "timeout of a deep learning accelerator (DLA)", "IGNORE", noAction)
	case 160:
		return note(ScopeApp, "channel retirement", "IGNORE", noAction)
	case 161:
		return note(ScopeApp, "channel retirement that was not done", "IGNORE", noAction)
	}
	return Row{}, false
}
