package azure

import (
	"errors"
	"testing"
)

func TestHint_EveryReason(t *testing.T) {
	t.Parallel()
	for _, reason := range Reasons {
		hint := Hint(&Error{Reason: reason, Err: errors.New("x")}, "", Identity{})
		if (hint == "") != (reason == ReasonCanceled) {
			t.Errorf("the hint for %s is %q", reason, hint)
		}
	}
}
