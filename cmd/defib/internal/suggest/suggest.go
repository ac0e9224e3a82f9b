// Package suggest finds the word that somebody meant.
package suggest

import "strings"

// Closest returns the candidate nearest to word, or "" when none is near
// enough to be worth naming. Case does not count. Of those as near, one that
// word begins goes before, for it was not typed to its end; else the first.
func Closest(word string, candidates []string) string {
	word = strings.ToLower(word)
	if len(word) > 128 {
		return ""
	}
	best, least := "", 2*(len(word)/3+2)-1 // in halves of a letter
	for _, c := range candidates {
		low := strings.ToLower(c)
		d := 2 * distance(word, low)
		switch {
		case len(word) >= 3 && strings.HasPrefix(low, word):
			d = min(d, 1)
		case len(word) >= 3 && strings.Contains(low, word):
			d = min(d, 2)
		}
		if d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is the number of letters to add, drop, change or swap with their
// neighbour (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
