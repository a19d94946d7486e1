package asynctask.benchmarks;

import static asynctask.benchmarks.Main.check;

import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Has a pool run what several threads post. */
final class Pools {
  private Pools() {}

  /** From the first post until all {@code count} tasks have run. */
  static Map<String, double[]> run(String contestant, int producers, int count)
      throws InterruptedException {
    check(contestant.equals("ThreadPoolExecutor"), contestant);
    ExecutorService pool = Executors.newFixedThreadPool(Service.WORKERS);
    runAll(pool, 1, 1_000); // the threads are there
    int share = count / producers;
    long took = runAll(pool, producers, share);
    pool.shutdown();
    check(pool.awaitTermination(60, TimeUnit.SECONDS), "it does not end");
    return Map.of("ns", new double[] {(double) took / (share * producers)});
  }

  private static long runAll(ExecutorService pool, int producers, int share)
      throws InterruptedException {
    int total = share * producers;
    var ran = new AtomicInteger();
    var gate = new CountDownLatch(1);
    var over = new CountDownLatch(1);
    Runnable task =
        () -> {
          if (ran.incrementAndGet() == total) {
            over.countDown();
          }
        };
    for (int producer = 0; producer < producers; producer++) {
      var thread =
          new Thread(
              () -> {
                try {
                  gate.await();
                } catch (InterruptedException e) {
                  return;
                }
                for (int posted = 0; posted < share; posted++) {
                  pool.execute(task);
                }
              });
      thread.start();
    }
    long start = System.nanoTime();
    gate.countDown();
    over.await();
    return System.nanoTime() - start;
  }
}
