package org.apache.beam.runners.fnexecution.control;

import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * In place of Beam's class of this name: the workers that were asked for, by id, and those that came.
 *
 * <p>Who asked takes a TimeoutException for "ask again" (ExternalEnvironmentFactory), and so waits for ever when the
 * worker, or the pool that was to start it, died before it came: the job says RUNNING and does nothing. Here one that
 * does not come in time is an error, at which Flink starts the task anew, and that asks for another worker.
 */
public final class MapControlClientPool implements ControlClientPool {
  private final Map<String, CompletableFuture<InstructionRequestHandler>> workers = new ConcurrentHashMap<>();

  private MapControlClientPool() {}

  public static MapControlClientPool create() {
    return new MapControlClientPool();
  }

  @Override
  public Source getSource() {
    return this::take;
  }

  @Override
  public Sink getSink() {
    return this::put;
  }

  private InstructionRequestHandler take(String id, Duration timeout) throws Exception {
    CompletableFuture<InstructionRequestHandler> awaited = awaited(id);
    try {
      awaited.get(timeout.toMillis(), TimeUnit.MILLISECONDS);
    } catch (TimeoutException late) {
      String said = "Python worker " + id + " did not come within " + timeout.toSeconds() + " s of being asked for; ";
      // a future that ended like this stays, so that a worker that comes later is sent away
      awaited.completeExceptionally(new IllegalStateException(said + "the log of the workers may say why", late));
    }
    InstructionRequestHandler worker = awaited.get(); // it may have come in between
    workers.remove(id);
    return worker;
  }

  private void put(String id, InstructionRequestHandler worker) throws Exception {
    if (!awaited(id).complete(worker)) {
      worker.close();
    }
  }

  private CompletableFuture<InstructionRequestHandler> awaited(String id) {
    return workers.computeIfAbsent(id, any -> new CompletableFuture<>());
  }
}
