// Java's HttpClient in HTTP/2. Called with what to do, the URL and the file of the authority; exit 0 when all was answered well.
import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Http2Client {
  static String base;
  static HttpClient client;

  static CompletableFuture<byte[]> ask(String path, String body) {
    HttpRequest.Builder builder = HttpRequest.newBuilder(URI.create(base + path));
    if (body != null) builder.POST(HttpRequest.BodyPublishers.ofString(body));
    return client.sendAsync(builder.build(), HttpResponse.BodyHandlers.ofByteArray()).thenApply(answer -> {
      if (answer.statusCode() != 200 || answer.version() != HttpClient.Version.HTTP_2) {
        throw new IllegalStateException(answer.version() + " " + answer.statusCode());
      }
      return answer.body();
    });
  }

  public static void main(String[] args) throws Exception {
    base = args[1];
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null, null);
    try (FileInputStream file = new FileInputStream(args[2])) {
      store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
    }
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_2).sslContext(context).build();
    switch (args[0]) {
      case "get": ask("/", null).get(); break;
      case "post":
        String body = "cirque ".repeat(20000);
        if (!new String(ask("/echo", body).get()).equals(body)) throw new Exception("another body came back");
        break;
      case "together":
        // Each of the first requests would dial a connection of its own.
        ask("/", null).get();
        List<CompletableFuture<byte[]>> all = new ArrayList<>();
        for (int count = 0; count < 50; count++) all.add(ask("/together", null));
        for (CompletableFuture<byte[]> one : all) one.get();
        break;
      case "download":
        int length = ask("/download?bytes=5000000", null).get().length;
        if (length != 5000000) throw new Exception(length + " bytes came");
        break;
    }
    System.exit(0);
  }
}
