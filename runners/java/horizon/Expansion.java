package horizon;

import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.Arrays;
import org.apache.beam.sdk.expansion.service.ExpansionService;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.netty.NettyServerBuilder;

/**
 * Beam's expansion service on the loopback interface alone, and without the service beside it that hands out any file of
 * this machine by its path: the cluster has the jars itself. It makes transforms that are registered, and no class by
 * its name.
 */
public final class Expansion {
  private Expansion() {}

  /** The port, then options of the service. */
  public static void main(String[] arguments) throws Exception {
    InetSocketAddress address =
        new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(arguments[0]));
    ExpansionService service = new ExpansionService(Arrays.copyOfRange(arguments, 1, arguments.length));
    NettyServerBuilder.forAddress(address).addService(service).build().start().awaitTermination();
  }
}
