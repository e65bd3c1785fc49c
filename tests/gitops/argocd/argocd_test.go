// How Argo CD itself reads deploy/argocd/argocd-cm.yaml and, by it, a MaxChannel: its settings, its health and its comparison with git, on the statuses
// that the program's own snapshots hold.
package argocd

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/util/argo/diff"
	"github.com/argoproj/argo-cd/v3/util/argo/normalizers"
	"github.com/argoproj/argo-cd/v3/util/lua"
	"github.com/argoproj/argo-cd/v3/util/settings"
	"github.com/argoproj/gitops-engine/pkg/health"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"
)

const root = "../../../"

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(root + path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What Argo CD makes of our part of its settings, with `more` beside it.
func overrides(t *testing.T, with bool, more map[string]string) map[string]v1alpha1.ResourceOverride {
	t.Helper()
	var ours corev1.ConfigMap
	if err := yaml.UnmarshalStrict(read(t, "deploy/argocd/argocd-cm.yaml"), &ours); err != nil {
		t.Fatal(err)
	}
	if !with {
		ours.Data = map[string]string{}
	}
	for key, value := range more {
		ours.Data[key] = value
	}
	ours.Labels = map[string]string{"app.kubernetes.io/part-of": "argocd"}
	secret := corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "argocd-secret", Namespace: "argocd", Labels: ours.Labels},
		Data:       map[string][]byte{"server.secretkey": []byte("invented"), "admin.password": []byte("invented")},
	}
	manager := settings.NewSettingsManager(t.Context(), fake.NewClientset(&ours, &secret), "argocd")
	found, err := manager.GetResourceOverrides()
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func object(t *testing.T, text []byte) *unstructured.Unstructured {
	t.Helper()
	var found map[string]any
	if err := yaml.Unmarshal(text, &found); err != nil {
		t.Fatal(err)
	}
	return &unstructured.Unstructured{Object: found}
}

// The manifest of the examples, as git has it.
func inGit(t *testing.T) *unstructured.Unstructured {
	return object(t, read(t, "examples/gitops/channels/support.yaml"))
}

// The same in the cluster: what the server and the program have written into it, with the status of a snapshot, which is of the generation 3.
func inCluster(t *testing.T, snapshot string) *unstructured.Unstructured {
	t.Helper()
	live := inGit(t)
	live.SetUID("6f5a3f0e-0000-4000-8000-000000000000")
	live.SetResourceVersion("812")
	live.SetGeneration(3)
	live.SetFinalizers([]string{"maxchannel.dev/cleanup"})
	live.SetCreationTimestamp(metav1.Now())
	text := string(read(t, "src/channel/tests/snapshots/maxchannel__channel__tests__statuses__"+snapshot+".snap"))
	_, body, _ := strings.Cut(strings.TrimPrefix(text, "---\n"), "\n---\n")
	var status map[string]any
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	live.Object["status"] = status
	return live
}

func same(t *testing.T, live, git *unstructured.Unstructured, overrides map[string]v1alpha1.ResourceOverride) bool {
	t.Helper()
	config, err := diff.NewDiffConfigBuilder().
		WithDiffSettings(nil, overrides, false, normalizers.IgnoreNormalizerOpts{}).
		WithTracking("app.kubernetes.io/instance", string(v1alpha1.TrackingMethodAnnotation)).
		WithNoCache().
		Build()
	if err != nil {
		t.Fatal(err)
	}
	found, err := diff.StateDiff(live, git, config)
	if err != nil {
		t.Fatal(err)
	}
	return !found.Modified
}

var snapshots = map[string]health.HealthStatusCode{
	"ready": health.HealthStatusHealthy, "troubled": health.HealthStatusDegraded, "troubled_in_russian": health.HealthStatusDegraded,
}

func TestArgoFindsTheHealthOfEveryStatus(t *testing.T) {
	for snapshot, expected := range snapshots {
		found, err := health.GetResourceHealth(inCluster(t, snapshot), lua.ResourceHealthOverrides(overrides(t, true, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if found == nil || found.Status != expected || found.Message == "" {
			t.Errorf("%s: %v and not %s", snapshot, found, expected)
		}
		// Without our part of its settings it knows nothing of a channel.
		if found, err = health.GetResourceHealth(inCluster(t, snapshot), lua.ResourceHealthOverrides(overrides(t, false, nil))); found != nil || err != nil {
			t.Errorf("%s: %v, %v without the script", snapshot, found, err)
		}
	}
}

func TestWhatTheProgramWritesIntoAChannelIsNoDifference(t *testing.T) {
	for snapshot := range snapshots {
		live := inCluster(t, snapshot)
		if !same(t, live, inGit(t), overrides(t, true, nil)) {
			t.Errorf("%s: out of sync", snapshot)
		}

		// A manifest that was written from the cluster holds an older status and other finalizers. Argo CD may be told to compare statuses.
		compares := map[string]string{"resource.compareoptions": "ignoreResourceStatusField: none"}
		for name, change := range map[string]func(git *unstructured.Unstructured){
			"an older status": func(git *unstructured.Unstructured) {
				git.Object["status"] = map[string]any{"observedGeneration": int64(1)}
			},
			"a finalizer that the program takes off": func(git *unstructured.Unstructured) { git.SetFinalizers([]string{"maxchannel.dev/earlier"}) },
		} {
			git := inGit(t)
			change(git)
			if same(t, live, git, overrides(t, false, compares)) {
				t.Errorf("%s, %s: this is no difference even without our rules, so it shows nothing", snapshot, name)
			}
			if !same(t, live, git, overrides(t, true, compares)) {
				t.Errorf("%s, %s: out of sync", snapshot, name)
			}
		}
	}
}

func TestWhatPeopleWriteIsADifference(t *testing.T) {
	for name, change := range map[string]func(live *unstructured.Unstructured) error{
		"a changed field": func(live *unstructured.Unstructured) error {
			return unstructured.SetNestedField(live.Object, "Иначе", "spec", "closeMessage", "text")
		},
		"a label": func(live *unstructured.Unstructured) error {
			return unstructured.SetNestedField(live.Object, "other", "metadata", "labels", "team")
		},
	} {
		live, git := inCluster(t, "ready"), inGit(t)
		git.SetLabels(map[string]string{"team": "support"})
		live.SetLabels(map[string]string{"team": "support"})
		if !same(t, live, git, overrides(t, true, nil)) {
			t.Fatalf("%s: different before the change", name)
		}
		if err := change(live); err != nil {
			t.Fatal(err)
		}
		if same(t, live, git, overrides(t, true, nil)) {
			t.Errorf("%s is hidden by our rules", name)
		}
	}
}
