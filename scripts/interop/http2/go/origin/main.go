// Go's net/http as an origin of HTTP/2. Called with its address, the folder of its files and, for TLS, its certificate and its key.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

func main() {
	routes := http.NewServeMux()
	files := http.FileServer(http.Dir(os.Args[2]))
	routes.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
		answer.Header().Set("X-Seen", request.Proto)
		files.ServeHTTP(answer, request)
	})
	routes.HandleFunc("/post", func(answer http.ResponseWriter, request *http.Request) {
		answer.Header().Set("X-Seen", request.Proto)
		io.Copy(answer, request.Body)
	})
	server := &http.Server{Addr: os.Args[1], Handler: routes}
	var err error
	if len(os.Args) > 3 {
		err = server.ListenAndServeTLS(os.Args[3], os.Args[4])
	} else {
		server.Handler = h2c.NewHandler(routes, &http2.Server{})
		err = server.ListenAndServe()
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
