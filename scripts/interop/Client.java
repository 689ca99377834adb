// Java's HttpClient. Called with what to do, the URL's port and the file of the authority; exit 0 when all was answered well.
import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class Client {
  static String base;

  static void ask(HttpClient client, String path, String body) throws Exception {
    HttpRequest.Builder builder = HttpRequest.newBuilder(URI.create(base + path));
    if (body != null) builder.POST(HttpRequest.BodyPublishers.ofString(body));
    HttpResponse<String> answer = client.send(builder.build(), HttpResponse.BodyHandlers.ofString());
    if (answer.statusCode() != 200) throw new Exception("status " + answer.statusCode());
    if (body != null && !answer.body().equals(body)) throw new Exception("another body came back");
  }

  static HttpClient client(SSLContext context) {
    return HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).sslContext(context).build();
  }

  public static void main(String[] args) throws Exception {
    base = "https://localhost:" + args[1];
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null, null);
    try (FileInputStream file = new FileInputStream(args[2])) {
      store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
    }
    TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    trust.init(store);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    HttpClient client = client(context);
    switch (args[0]) {
      case "get": ask(client, "/", null); break;
      case "post": ask(client, "/echo", "cirque ".repeat(20000)); break;
      case "keep-alive": for (int count = 0; count < 5; count++) ask(client, "/", null); break;
      // Sessions belong to the context, connections to the client.
      case "resumption": ask(client, "/", null); ask(client(context), "/", null); break;
    }
    System.exit(0);
  }
}
