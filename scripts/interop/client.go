// Go's net/http. Called with what to do, the URL's port and the file of the authority; exit 0 when all was answered well.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

var base string

func ask(client *http.Client, method, path, body string, close bool) {
	request, err := http.NewRequest(method, base+path, strings.NewReader(body))
	check(err)
	request.Close = close
	answer, err := client.Do(request)
	check(err)
	text, err := io.ReadAll(answer.Body)
	check(err)
	answer.Body.Close()
	if answer.StatusCode != 200 {
		fail(answer.Status)
	}
	if body != "" && !bytes.Equal(text, []byte(body)) {
		fail("another body came back")
	}
}

func check(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(1)
}

func main() {
	base = "https://localhost:" + os.Args[2]
	pem, err := os.ReadFile(os.Args[3])
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	switch os.Args[1] {
	case "get":
		ask(client, "GET", "/", "", false)
	case "post":
		ask(client, "POST", "/echo", strings.Repeat("cirque ", 20000), false)
	case "keep-alive":
		for count := 0; count < 5; count++ {
			ask(client, "GET", "/", "", false)
		}
	case "resumption":
		ask(client, "GET", "/", "", true)
		ask(client, "GET", "/", "", true)
	}
}
