// Package suggest finds the word that somebody meant.
package suggest

import "strings"

// Closest returns the candidate nearest to word, or "" when none is near
// enough to be worth naming. Case does not count; of equals the first wins.
func Closest(word string, candidates []string) string {
	word = strings.ToLower(word)
	if len(word) > 128 {
		return ""
	}
	best, least := "", len(word)/3+2
	for _, c := range candidates {
		d := distance(word, strings.ToLower(c))
		if len(word) >= 3 && strings.Contains(strings.ToLower(c), word) {
			d = min(d, 1)
		}
		if d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is the number of letters to add, drop or change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		left, diagonal := i+1, i
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, left, row[j+1])
			}
			row[j], left, diagonal = left, cost, row[j+1]
		}
		row[len(b)] = left
	}
	return row[len(b)]
}
