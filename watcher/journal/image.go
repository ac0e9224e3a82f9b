package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// bbolt trusts the numbers in its file: a flipped bit in one of them sends it
// outside its memory map, which no program survives. So every page is looked
// at here first, with bounds. The same walk finds what a repair can keep.

const (
	pageHeader = 16
	metaLen    = 64
	elementLen = 16

	branchPage = 0x01
	leafPage   = 0x02
	freePage   = 0x10
	bucketFlag = 0x01
	noFreelist = ^uint64(0)
)

// meta is the newest state of the file, of which it holds two in turn.
type meta struct {
	pageSize             int64
	root, freelist, high uint64 // pages; high is the first that was never used
	txid                 uint64
}

// image is a state file, read without trusting it.
type image struct {
	file     io.ReaderAt
	size     int64
	meta     meta
	seen     map[uint64]bool // pages that are part of a tree, to stop at a loop
	visit    func(bucket, key string, value []byte)
	problems []string
}

// inspect walks through the state file at path, hands every value that can be
// reached to visit, and returns what is wrong with the file's structure.
func inspect(path string, visit func(bucket, key string, value []byte)) (problems []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	im := &image{file: f, size: info.Size(), seen: map[uint64]bool{}, visit: visit}
	if im.readMeta() {
		im.freelist()
		im.tree("", im.meta.root, im.bucket)
	}
	return im.problems, nil
}

func (im *image) problem(format string, args ...any) {
	im.problems = append(im.problems, fmt.Sprintf(format, args...))
}

// readMeta finds the newest of the two headers. A crash leaves both whole
// (each fits one disk sector), so a broken one is damage.
func (im *image) readMeta() bool {
	first, err0 := im.metaAt(0)
	pageSize := int64(os.Getpagesize())
	if err0 == nil {
		pageSize = first.pageSize
	}
	second, err1 := im.metaAt(pageSize)
	switch {
	case err0 != nil && err1 != nil:
		im.problem("no valid header: %v", err0)
		return false
	case err0 != nil:
		im.problem("the first of its two headers: %v", err0)
		im.meta = second
	case err1 != nil:
		im.problem("the second of its two headers: %v", err1)
		im.meta = first
	default:
		if first.txid+1 != second.txid && second.txid+1 != first.txid {
			im.problem("its two headers do not belong together")
		}
		if im.meta = first; second.txid > first.txid {
			im.meta = second
		}
	}
	return true
}

func (im *image) metaAt(off int64) (meta, error) {
	b := make([]byte, pageHeader+metaLen)
	if _, err := im.file.ReadAt(b, off); err != nil {
		return meta{}, fmt.Errorf("cannot be read (%w)", err)
	}
	b = b[pageHeader:]
	order := binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(b[:metaLen-8])
	m := meta{
		pageSize: int64(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]), freelist: order.Uint64(b[32:]), high: order.Uint64(b[40:]),
		txid: order.Uint64(b[48:]),
	}
	switch {
	case order.Uint32(b) != 0xED0CDAED || order.Uint32(b[4:]) != 2:
		return meta{}, errors.New("not that of a state file")
	case order.Uint64(b[56:]) != sum.Sum64():
		return meta{}, errors.New("does not match its checksum")
	case m.pageSize < 1024 || m.high > uint64(im.size/m.pageSize):
		return meta{}, errors.New("the file is shorter than it says")
	}
	return m, nil
}

// page returns a page with all that overflows from it.
func (im *image) page(id uint64) (kind uint16, b []byte, err error) {
	if id < 2 || id >= im.meta.high {
		return 0, nil, errors.New("is outside the file")
	}
	head := make([]byte, pageHeader)
	if _, err := im.file.ReadAt(head, int64(id)*im.meta.pageSize); err != nil {
		return 0, nil, err
	}
	order := binary.NativeEndian
	overflow := uint64(order.Uint32(head[12:]))
	if order.Uint64(head) != id || overflow >= im.meta.high-id {
		return 0, nil, errors.New("has a wrong header")
	}
	for i := range overflow + 1 {
		if im.seen[id+i] {
			return 0, nil, errors.New("is used twice")
		}
		im.seen[id+i] = true
	}
	b = make([]byte, int64(overflow+1)*im.meta.pageSize)
	_, err = im.file.ReadAt(b, int64(id)*im.meta.pageSize)
	return order.Uint16(head[8:]), b, err
}

// tree hands the entries under a page to visit.
func (im *image) tree(where string, id uint64, visit func(where string, e element)) {
	kind, b, err := im.page(id)
	if err != nil {
		im.problem("page %d %v; what it held of %s is lost", id, err, name(where))
		return
	}
	found, err := elements(kind, b)
	if err != nil {
		im.problem("page %d %v; what it held of %s is lost", id, err, name(where))
		return
	}
	for _, e := range found {
		if kind == branchPage {
			im.tree(where, e.child, visit)
		} else {
			visit(where, e)
		}
	}
}

// bucket goes into a bucket of the root: a tree of its own, or, when small, a
// page inside the value.
func (im *image) bucket(_ string, e element) {
	where := string(e.key)
	if e.flags != bucketFlag || len(e.value) < 16 {
		im.problem("%q is no bucket", where)
		return
	}
	if root := binary.NativeEndian.Uint64(e.value); root != 0 {
		im.tree(where, root, im.entry)
		return
	}
	found, err := inline(e.value[16:])
	if err != nil {
		im.problem("%s %v", where, err)
	}
	for _, e := range found {
		im.entry(where, e)
	}
}

func inline(page []byte) ([]element, error) {
	if len(page) < pageHeader || binary.NativeEndian.Uint16(page[8:]) != leafPage {
		return nil, errors.New("has a wrong header")
	}
	return elements(leafPage, page)
}

func (im *image) entry(where string, e element) {
	if e.flags != 0 {
		im.problem("%q in %s is no value", e.key, where)
		return
	}
	im.visit(where, string(e.key), e.value)
}

// freelist checks what bbolt reads before it checks anything itself.
func (im *image) freelist() {
	if im.meta.freelist == noFreelist {
		return
	}
	kind, b, err := im.page(im.meta.freelist)
	if err != nil || kind != freePage {
		im.problem("the list of free pages cannot be read")
		return
	}
	order := binary.NativeEndian
	n, ids := uint64(order.Uint16(b[10:])), b[pageHeader:]
	if n == 0xffff {
		n, ids = order.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		im.problem("the list of free pages is longer than its page")
		return
	}
	for last := uint64(1); n > 0; n-- {
		id := order.Uint64(ids)
		if id <= last || id >= im.meta.high {
			im.problem("the list of free pages is out of order")
			return
		}
		last, ids = id, ids[8:]
	}
}

// element is one entry of a page: a child of a branch, or a key with a value.
type element struct {
	flags      uint32
	child      uint64
	key, value []byte
}

func elements(kind uint16, b []byte) ([]element, error) {
	if len(b) < pageHeader || kind != branchPage && kind != leafPage {
		return nil, errors.New("is of an unknown kind")
	}
	order := binary.NativeEndian
	n := int(order.Uint16(b[10:]))
	if pageHeader+n*elementLen > len(b) || n == 0 && kind == branchPage {
		return nil, errors.New("has a wrong number of entries")
	}
	out := make([]element, n)
	for i := range out {
		at := b[pageHeader+i*elementLen:]
		var e element
		var pos, keyLen, valueLen uint64
		if kind == branchPage {
			pos, keyLen, e.child = uint64(order.Uint32(at)), uint64(order.Uint32(at[4:])), order.Uint64(at[8:])
		} else {
			e.flags, pos = order.Uint32(at), uint64(order.Uint32(at[4:]))
			keyLen, valueLen = uint64(order.Uint32(at[8:])), uint64(order.Uint32(at[12:]))
		}
		if pos+keyLen+valueLen > uint64(len(at)) {
			return nil, errors.New("has an entry that points outside")
		}
		e.key, e.value = at[pos:pos+keyLen], at[pos+keyLen:pos+keyLen+valueLen]
		out[i] = e
	}
	return out, nil
}

func name(bucket string) string {
	if bucket == "" {
		return "everything"
	}
	return bucket
}
