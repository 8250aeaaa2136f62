// echo serve PORT | ask HOST PORT: Go makes its system calls itself; the client checks what comes back.
package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net"
	"os"
)

const messages = 500

func serve(port string) {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			io.Copy(conn, conn)
			conn.Close()
		}()
	}
}

func ask(host, port string) {
	conn, err := net.Dial("tcp", net.JoinHostPort(host, port))
	if err != nil {
		log.Fatal(err)
	}
	sizes := []int{1, 64, 1000, 30000}
	for i := 0; i < messages; i++ {
		sent := make([]byte, sizes[i%len(sizes)])
		rand.Read(sent)
		got := make([]byte, len(sent))
		if _, err := conn.Write(sent); err != nil {
			log.Fatal(err)
		}
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(sent, got) {
			log.Fatal("other bytes came back ", err)
		}
	}
	fmt.Println(messages, "messages came back")
}

func main() {
	if os.Args[1] == "serve" {
		serve(os.Args[2])
	} else {
		ask(os.Args[2], os.Args[3])
	}
}
