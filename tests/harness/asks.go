// A program that asks for signals as its arguments say, and prints those that it gets.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	channel := make(chan os.Signal, 100)
	for _, argument := range os.Args[1:] {
		switch argument {
		case "TERM":
			signal.Notify(channel, syscall.SIGTERM)
		case "CONT":
			signal.Notify(channel, syscall.SIGCONT)
		case "40":
			signal.Notify(channel, syscall.Signal(40))
		case "all":
			signal.Notify(channel)
		case "ignore":
			signal.Ignore(syscall.SIGTERM, syscall.SIGUSR1)
		case "stop":
			signal.Stop(channel)
		}
	}
	// Without this the runtime would call it a deadlock where nothing is asked for.
	go time.Sleep(time.Hour)
	fmt.Println("ready")
	for {
		fmt.Println("got", int((<-channel).(syscall.Signal)))
	}
}
