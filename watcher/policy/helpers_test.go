package policy_test

import "slices"

func sortStrings(s []string) { slices.Sort(s) }
