package gpu

import (
	"slices"
	"strings"
)

// Sign is a kind of sentence in a container's log, in its check's output or in
// the error of its start, that tells of a GPU.
type Sign string

// The signs.
const (
	SignAccessLost  Sign = "access_lost"  // Failed to initialize NVML: Unknown Error; CUDA 100, 999 …
	SignMismatch    Sign = "mismatch"     // driver/library version mismatch, CUDA 803
	SignStaleCDI    Sign = "stale_cdi"    // unresolvable CDI devices, a library of the old version is missing
	SignFabric      Sign = "fabric"       // CUDA 802
	SignMemory      Sign = "memory"       // CUDA 2, "Free memory on device … is less than desired"
	SignECC         Sign = "ecc"          // CUDA 214
	SignContained   Sign = "contained"    // CUDA 226
	SignNVLink      Sign = "nvlink"       // CUDA 220, NCCL unhandled system error
	SignUnavailable Sign = "unavailable"  // CUDA 46
	SignApp         Sign = "app"          // CUDA 700, 702, 710, 714–719: the program's own fault
	SignEngineDead  Sign = "engine_dead"  // vLLM, SGLang, TGI and others say that their engine is dead
	SignStartFailed Sign = "start_failed" // nvidia-container-cli and the like, for a reason of none of the other kinds
)

// signLine is how much of a line is read: what engines and CUDA say stands at
// its start.
const signLine = 4096

// Signs returns the signs in a text, each once, in the order of the constants.
func Signs(text string) []Sign {
	var found [12]bool
	all := [len(found)]Sign{
		SignAccessLost, SignMismatch, SignStaleCDI, SignFabric, SignMemory, SignECC,
		SignContained, SignNVLink, SignUnavailable, SignApp, SignEngineDead, SignStartFailed,
	}
	for line := range strings.Lines(text) {
		line = strings.ToLower(line[:min(len(line), signLine)])
		for i, s := range all {
			found[i] = found[i] || tells(line, s)
		}
		if n, ok := cudaCode(line); ok {
			if i := slices.Index(all[:], signOf(n)); i >= 0 {
				found[i] = true
			}
		}
	}
	var out []Sign
	for i, s := range all {
		if found[i] && (s != SignStartFailed || !slices.ContainsFunc(out, explainsStart)) {
			out = append(out, s)
		}
	}
	return out
}

// explainsStart reports whether a sign says why a start failed.
func explainsStart(s Sign) bool {
	return s == SignAccessLost || s == SignMismatch || s == SignStaleCDI || s == SignFabric
}

// tells reports whether a line, in lower case, has a phrase of a sign.
func tells(line string, s Sign) bool {
	for _, p := range phrases(s) {
		if strings.Contains(line, p) {
			return true
		}
	}
	switch s {
	case SignStaleCDI: // a mount of a driver library that went with the old driver
		return (strings.Contains(line, "/libnvidia-") || strings.Contains(line, "/libcuda")) && strings.Contains(line, ".so.") && strings.Contains(line, "no such file or directory")
	case SignNVLink:
		return strings.Contains(line, "nccl") && strings.Contains(line, "unhandled system error")
	case SignEngineDead:
		return shardCrashed(line)
	default:
		return false
	}
}

// shardCrashed: TGI says "Shard 0 crashed".
func shardCrashed(line string) bool {
	_, after, ok := strings.Cut(line, "shard ")
	n := strings.TrimLeft(after, "0123456789")
	return ok && len(n) < len(after) && strings.HasPrefix(n, " crashed")
}

// signOf is what a CUDA error code tells (gpu.md §4.13).
func signOf(code int) Sign {
	switch code {
	case 2:
		return SignMemory
	case 46:
		return SignUnavailable
	case 100, 999:
		return SignAccessLost
	case 214:
		return SignECC
	case 220:
		return SignNVLink
	case 226:
		return SignContained
	case 700, 702, 710, 714, 715, 716, 717, 718, 719:
		return SignApp
	case 802:
		return SignFabric
	case 803:
		return SignMismatch
	}
	return ""
}

// nearCUDA is how far from the word CUDA a code may stand.
const nearCUDA = 64

// cudaCode finds the code of a CUDA error in a line: "CUDA error 700", "CUDA
// failure 999", "cudart init failure: 999", "error code 999" beside CUDA. A
// number that no such word leads to is none.
func cudaCode(line string) (int, bool) {
	for rest := line; ; {
		i := strings.Index(rest, "cuda")
		if i < 0 {
			break
		}
		rest = rest[i+len("cuda"):]
		if n, ok := codeAfter(rest[:min(len(rest), nearCUDA)], "error", "failure", "failed", "code", "err"); ok {
			return n, true
		}
	}
	i := strings.Index(line, "cuda")
	if i < 0 {
		return 0, false
	}
	return codeAfter(line[max(0, i-nearCUDA):i], "error code")
}

// codeAfter finds a number of up to three digits that follows one of the words
// directly or after punctuation.
func codeAfter(s string, words ...string) (int, bool) {
	for _, w := range words {
		for rest := s; ; {
			_, after, ok := strings.Cut(rest, w)
			if !ok {
				break
			}
			if n, ok := leadingCode(strings.TrimLeft(after, " :=(#[")); ok {
				return n, true
			}
			rest = after
		}
	}
	return 0, false
}

func leadingCode(s string) (int, bool) {
	n, i := 0, 0
	for i < len(s) && i < 4 && '0' <= s[i] && s[i] <= '9' {
		n, i = 10*n+int(s[i]-'0'), i+1
	}
	if i == 0 || i > 3 {
		return 0, false
	}
	if i == len(s) {
		return n, true
	}
	next := s[i]
	word := next >= 'a' && next <= 'z' || next == '_' || next == '%' || next >= 0x80
	fraction := next == '.' && i+1 < len(s) && '0' <= s[i+1] && s[i+1] <= '9'
	return n, !word && !fraction
}
