package asynctask.benchmarks;

import io.netty.util.HashedWheelTimer;
import io.netty.util.Timeout;
import io.netty.util.concurrent.DefaultThreadFactory;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

/** Calls back after a delay. */
interface Service {
  int WORKERS = 8;

  /** What it gives, {@link #cancel} takes. */
  Object after(long delay, Runnable callback);

  boolean cancel(Object timer);

  void stop();

  static Service start(String name) {
    return switch (name) {
      case "HashedWheelTimer" -> new Netty();
      case "ScheduledThreadPoolExecutor" -> new Scheduled();
      default -> throw new IllegalArgumentException(name);
    };
  }

  /** Ticks of 5 ms, and slots for more than two minutes, so that it need not count rounds. */
  final class Netty implements Service {
    private final HashedWheelTimer timer =
        new HashedWheelTimer(
            new DefaultThreadFactory("wheel", true), 5, TimeUnit.MILLISECONDS, 32_768);

    @Override
    public Object after(long delay, Runnable callback) {
      return timer.newTimeout(timeout -> callback.run(), delay, TimeUnit.NANOSECONDS);
    }

    @Override
    public boolean cancel(Object timeout) {
      return ((Timeout) timeout).cancel();
    }

    @Override
    public void stop() {
      timer.stop();
    }
  }

  /** What is cancelled is removed at once; by default it would stay until it is due. */
  final class Scheduled implements Service {
    private final ScheduledThreadPoolExecutor executor = new ScheduledThreadPoolExecutor(WORKERS);

    Scheduled() {
      executor.setRemoveOnCancelPolicy(true);
    }

    @Override
    public Object after(long delay, Runnable callback) {
      return executor.schedule(callback, delay, TimeUnit.NANOSECONDS);
    }

    @Override
    public boolean cancel(Object future) {
      return ((Future<?>) future).cancel(false);
    }

    @Override
    public void stop() {
      executor.shutdownNow();
    }
  }
}
