// The smallest program a pod can hold: it prints its arguments, one a line, and waits for SIGTERM.
//
// Without arguments it is the sandbox ("pause") container of every pod on the test node; with them, the workload of the smoke test:
//
//	ANSWER_AT=:8080       also sends its arguments to everyone who connects there
//	ASK=10.96.0.7:8080    also prints what is sent from there, asking until something is
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	text := strings.Join(os.Args[1:], "\n")
	if text != "" {
		fmt.Println(text)
	}
	if address := os.Getenv("ANSWER_AT"); address != "" {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go answer(listener, text)
	}
	if address := os.Getenv("ASK"); address != "" {
		go ask(address)
	}
	<-stop
}

func answer(listener net.Listener, text string) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		fmt.Fprintln(connection, text)
		connection.Close()
	}
}

func ask(address string) {
	for {
		connection, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			copied, _ := io.Copy(os.Stdout, connection)
			connection.Close()
			if copied > 0 {
				return
			}
		}
		// Services begin to answer a moment after their pods are ready.
		time.Sleep(100 * time.Millisecond)
	}
}
