package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// begin returns since when there are records of each channel: what closed
// before that, a new one is not told of. One that is no longer there begins
// anew when it comes back, also when it was the only one.
func (s *store) begin(channels []string, now time.Time) map[string]time.Time {
	born := map[string]time.Time{}
	for _, c := range channels {
		born[c] = now
	}
	s.write(func(tx *bolt.Tx) error {
		for _, name := range strangers(tx, born) {
			if err := leave(tx, name); err != nil {
				return err
			}
		}
		return beginIn(tx.Bucket([]byte(bucketMeta)), born)
	})
	return born
}

func beginIn(meta *bolt.Bucket, born map[string]time.Time) error {
	was := map[string]time.Time{}
	err := meta.ForEach(func(key, v []byte) error {
		name, ok := strings.CutPrefix(string(key), keyBornOf)
		if !ok {
			return nil
		}
		var at time.Time
		err := at.UnmarshalText(v)
		was[name] = at
		return err
	})
	if err != nil {
		return err
	}
	for name, at := range was {
		if _, there := born[name]; there {
			born[name] = at
		} else if err := meta.Delete([]byte(keyBornOf + name)); err != nil {
			return err
		}
	}
	for name, at := range born {
		if err := meta.Put([]byte(keyBornOf+name), []byte(at.Format(time.RFC3339Nano))); err != nil {
			return err
		}
	}
	return nil
}

// strangers are the channels that have records and are no longer there.
func strangers(tx *bolt.Tx, there map[string]time.Time) []string {
	var out []string
	_ = tx.Bucket([]byte(bucketChannels)).ForEachBucket(func(name []byte) error { // it has no error of its own
		if _, ok := there[string(name)]; !ok {
			out = append(out, string(name))
		}
		return nil
	})
	return out
}

// leave forgets a channel, but not what people there still take for open: when
// it comes back, that is not told anew, and its end is.
func leave(tx *bolt.Tx, channel string) error {
	all := tx.Bucket([]byte(bucketChannels))
	b := all.Bucket([]byte(channel))
	var over []row
	left := 0
	err := b.ForEach(func(key, v []byte) error {
		var r record
		if err := json.Unmarshal(v, &r); err != nil {
			return fmt.Errorf("read record %q: %w", key, err)
		}
		if r.owes() || r.Closed == 0 && (r.Storm != "" || len(r.Members) > 0 || r.Paged) {
			left++
		} else {
			over = append(over, row{key: string(key)})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := tx.Bucket([]byte(bucketMeta)).Delete([]byte(keyPaceOf + channel)); err != nil || left > 0 {
		return errors.Join(err, putRows(b, over))
	}
	return all.DeleteBucket([]byte(channel))
}
