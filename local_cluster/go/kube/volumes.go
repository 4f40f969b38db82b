package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v10/controller"
)

const (
	provisionerName = "pushcluster.dev/node-directory"
	volumesRoot     = "/var/local-volumes"
	// The scheduler writes the node of the first pod here (WaitForFirstConsumer).
	selectedNode = "volume.kubernetes.io/selected-node"
	hostname     = "kubernetes.io/hostname"
)

// nodeDirectories makes each volume a directory on the node that it runs on.
// One runs on every node and minds only that node's volumes, so no helper pod is
// needed to reach a directory elsewhere.
type nodeDirectories struct{ node string }

func (n nodeDirectories) ShouldProvision(_ context.Context, claim *corev1.PersistentVolumeClaim) bool {
	return claim.Annotations[selectedNode] == n.node
}

func (n nodeDirectories) ShouldDelete(_ context.Context, volume *corev1.PersistentVolume) bool {
	return volume.Labels[hostname] == n.node
}

func (n nodeDirectories) Provision(_ context.Context, options controller.ProvisionOptions) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	directory := filepath.Join(volumesRoot, options.PVName)
	if err := os.MkdirAll(directory, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	// Programs of any uid write here; the umask would have taken that away.
	if err := os.Chmod(directory, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName, Labels: map[string]string{hostname: n.node}},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes:                   options.PVC.Spec.AccessModes,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: options.PVC.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: directory}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: hostname, Operator: corev1.NodeSelectorOpIn, Values: []string{n.node}}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

func (n nodeDirectories) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	return os.RemoveAll(filepath.Join(volumesRoot, volume.Name))
}

func provisionVolumes() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := runProvisioner(ctx, os.Getenv("NODE_NAME")); err != nil {
		klog.ErrorS(err, "The volume provisioner stopped")
		os.Exit(1)
	}
}

func runProvisioner(ctx context.Context, node string) error {
	if node == "" {
		return errors.New("NODE_NAME is not set; it must be the name of the node that this runs on")
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	// No leader: each node's provisioner minds only its own volumes.
	controller.NewProvisionController(
		klog.FromContext(ctx), client, provisionerName, nodeDirectories{node: node}, controller.LeaderElection(false),
	).Run(ctx)
	return nil
}
