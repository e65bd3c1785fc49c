// How Argo CD and Flux read a MaxChannel: the health script in the Lua that Argo CD embeds, and the kstatus of Flux, on the statuses that the program's own
// snapshots hold.
package gitops

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
)

const statuses = "../../src/channel/tests/snapshots/maxchannel__channel__tests__statuses__"

// A channel with the status of a snapshot, which is of the generation 3.
func channel(t *testing.T, snapshot string, change func(object map[string]any)) *unstructured.Unstructured {
	t.Helper()
	object := map[string]any{
		"apiVersion": "maxchannel.dev/v1alpha1", "kind": "MaxChannel",
		"metadata": map[string]any{"name": "support", "namespace": "crm", "generation": int64(3)},
		"spec":     map[string]any{},
	}
	if snapshot != "" {
		text, err := os.ReadFile(statuses + snapshot + ".snap")
		if err != nil {
			t.Fatal(err)
		}
		_, body, _ := strings.Cut(strings.TrimPrefix(string(text), "---\n"), "\n---\n")
		var found map[string]any
		if err := json.Unmarshal([]byte(body), &found); err != nil {
			t.Fatal(err)
		}
		// As an API server gives it: whole numbers.
		found["observedGeneration"] = int64(found["observedGeneration"].(float64))
		for _, one := range found["conditions"].([]any) {
			condition := one.(map[string]any)
			condition["observedGeneration"] = int64(condition["observedGeneration"].(float64))
		}
		delete(found, "bot")
		object["status"] = found
	}
	if change != nil {
		change(object)
	}
	return &unstructured.Unstructured{Object: object}
}

// Changes a condition of the channel.
func condition(name, state, reason string) func(object map[string]any) {
	return func(object map[string]any) {
		for _, one := range object["status"].(map[string]any)["conditions"].([]any) {
			if condition := one.(map[string]any); condition["type"] == name {
				condition["status"], condition["reason"] = state, reason
			}
		}
	}
}

// What the health script answers, in a state without libraries that Argo CD does not open either.
func health(t *testing.T, object *unstructured.Unstructured) (string, string) {
	t.Helper()
	script, err := os.ReadFile("../../deploy/argocd/health.lua")
	if err != nil {
		t.Fatal(err)
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, lua.StringLibName: lua.OpenString} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), NRet: 0, Protect: true}, lua.LString(name)); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(object.Object)
	if err != nil {
		t.Fatal(err)
	}
	value, err := luajson.Decode(state, text)
	if err != nil {
		t.Fatal(err)
	}
	state.SetGlobal("obj", value)
	if err := state.DoString(string(script)); err != nil {
		t.Fatal(err)
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatalf("the script answers %v", state.Get(-1))
	}
	return answer.RawGetString("status").String(), answer.RawGetString("message").String()
}

func TestArgoAndFluxSeeWhatThePeopleSee(t *testing.T) {
	for _, one := range []struct {
		name, snapshot string
		change         func(object map[string]any)
		argo           string
		flux           status.Status
		says           string
	}{
		{"a channel that works", "ready", nil, "Healthy", status.CurrentStatus, ""},
		{"one that only a person can mend", "troubled", nil, "Degraded", status.FailedStatus, "The manifest has errors"},
		{"the same in Russian", "troubled_in_russian", nil, "Degraded", status.FailedStatus, "В манифесте есть ошибки"},
		{"a change that nobody has looked at", "ready", func(object map[string]any) {
			object["metadata"].(map[string]any)["generation"] = int64(4)
		}, "Progressing", status.InProgressStatus, ""},
		{"one that waits for something that passes", "ready", condition("Ready", "False", "RelayStarting"), "Progressing", status.InProgressStatus, ""},
		{"one that is not known yet", "ready", condition("Ready", "Unknown", "Pending"), "Progressing", status.InProgressStatus, ""},
		{"a deliberate pause, which blocks nobody", "ready", condition("Ready", "True", "Suspended"), "Suspended", status.CurrentStatus, ""},
		// kstatus takes an object without a status for finished: examples/gitops waits by the condition instead.
		{"one without a status", "", nil, "Progressing", status.CurrentStatus, "Nobody has looked"},
	} {
		t.Run(one.name, func(t *testing.T) {
			object := channel(t, one.snapshot, one.change)
			argo, says := health(t, object)
			if argo != one.argo || !strings.Contains(says, one.says) || says == "" {
				t.Errorf("Argo CD: %s (%s) and not %s (%s)", argo, says, one.argo, one.says)
			}
			flux, err := status.Compute(object)
			if err != nil {
				t.Fatal(err)
			}
			if flux.Status != one.flux {
				t.Errorf("kstatus: %s (%s) and not %s", flux.Status, flux.Message, one.flux)
			}
		})
	}
}
