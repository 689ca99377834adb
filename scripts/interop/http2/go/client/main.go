// Go's net/http as a client of HTTP/2. Called with what to do, the URL and the file of the authority; exit 0 when all was answered well.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"sync"

	"golang.org/x/net/http2"
)

var base string

func ask(client *http.Client, method, path, body string) (*http.Response, []byte, []int) {
	var interim []int
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		interim = append(interim, code)
		return nil
	}}
	context := httptrace.WithClientTrace(context.Background(), trace)
	request, err := http.NewRequestWithContext(context, method, base+path, strings.NewReader(body))
	check(err)
	answer, err := client.Do(request)
	check(err)
	text, err := io.ReadAll(answer.Body)
	check(err)
	answer.Body.Close()
	if answer.StatusCode != 200 || answer.ProtoMajor != 2 {
		fail(answer.Proto + " " + answer.Status)
	}
	return answer, text, interim
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

func transport(caFile string) http.RoundTripper {
	if strings.HasPrefix(base, "http:") {
		return &http2.Transport{
			AllowHTTP: true,
			DialTLS:   func(network, address string, _ *tls.Config) (net.Conn, error) { return net.Dial(network, address) },
		}
	}
	pem, err := os.ReadFile(caFile)
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
}

func main() {
	base = os.Args[2]
	client := &http.Client{Transport: transport(os.Args[3])}
	switch os.Args[1] {
	case "get":
		ask(client, "GET", "/", "")
	case "post":
		body := strings.Repeat("cirque ", 20000)
		if _, text, _ := ask(client, "POST", "/echo", body); string(text) != body {
			fail("another body came back")
		}
	case "together":
		// Each of the first requests would dial a connection of its own.
		ask(client, "GET", "/", "")
		var all sync.WaitGroup
		for count := 0; count < 50; count++ {
			all.Add(1)
			go func() {
				defer all.Done()
				ask(client, "GET", "/together", "")
			}()
		}
		all.Wait()
	case "download":
		if _, text, _ := ask(client, "GET", "/download?bytes=5000000", ""); len(text) != 5000000 {
			fail(fmt.Sprint(len(text), " bytes came"))
		}
	case "hints":
		if _, _, interim := ask(client, "GET", "/hints", ""); len(interim) != 1 || interim[0] != 103 {
			fail(fmt.Sprint("1xx: ", interim))
		}
	case "trailers":
		if answer, _, _ := ask(client, "GET", "/trailers", ""); answer.Trailer.Get("X-Sum") != "right" {
			fail(fmt.Sprint("trailers: ", answer.Trailer))
		}
	}
}
