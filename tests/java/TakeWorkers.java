import java.lang.reflect.Proxy;
import java.time.Duration;
import java.util.concurrent.ExecutionException;
import org.apache.beam.runners.fnexecution.control.ControlClientPool;
import org.apache.beam.runners.fnexecution.control.InstructionRequestHandler;
import org.apache.beam.runners.fnexecution.control.MapControlClientPool;

/** A worker that came, one that comes while it is waited for, and one that comes too late; tests/runners/test_own_jar.py. */
public final class TakeWorkers {
  public static void main(String[] arguments) throws Exception {
    ControlClientPool pool = MapControlClientPool.create();
    pool.getSink().put("first", worker("first"));
    System.out.println(pool.getSource().take("first", Duration.ofSeconds(1)));
    new Thread(() -> putSoon(pool)).start();
    System.out.println(pool.getSource().take("second", Duration.ofSeconds(60)));
    try {
      pool.getSource().take("third", Duration.ofSeconds(1));
    } catch (ExecutionException gone) {
      System.out.println(gone.getCause().getMessage());
    }
    pool.getSink().put("third", worker("third"));
  }

  private static void putSoon(ControlClientPool pool) {
    try {
      Thread.sleep(200);
      pool.getSink().put("second", worker("second"));
    } catch (Exception error) {
      throw new IllegalStateException(error);
    }
  }

  private static InstructionRequestHandler worker(String name) {
    Class<?>[] types = {InstructionRequestHandler.class};
    return (InstructionRequestHandler) Proxy.newProxyInstance(TakeWorkers.class.getClassLoader(), types, (self, method, given) -> {
      if (method.getName().equals("close")) {
        System.out.println(name + " is sent away");
      }
      return method.getName().equals("toString") ? name : null;
    });
  }
}
