package asynctask.benchmarks;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * Has the peers in Java do the work that the core does.
 *
 * <p>Answers requests on its standard input, one a line: a workload, a contestant, and numbers. Each
 * answer is a line of JSON with the figures. What is asked for the first time is done {@link
 * #WARM_UP} times before, on a smaller scale; the garbage of one turn is collected before the next.
 */
final class Main {
  private static final int WARM_UP = 5;
  private static final int WARM_UP_SIZE = 20_000;

  private static final Set<String> WARM = new HashSet<>();

  private Main() {}

  public static void main(String[] arguments) {
    try {
      answerAll();
    } catch (Throwable failure) {
      failure.printStackTrace();
      Runtime.getRuntime().halt(1); // a pool's threads may be alive
    }
  }

  private static void answerAll() throws IOException, InterruptedException {
    var lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      String[] words = line.strip().split(" ");
      int[] numbers = Arrays.stream(words).skip(2).mapToInt(Integer::parseInt).toArray();
      if (WARM.add(words[0] + " " + words[1])) {
        int[] fewer = Arrays.stream(numbers).map(number -> Math.min(number, WARM_UP_SIZE)).toArray();
        for (int round = 0; round < WARM_UP; round++) {
          answer(words[0], words[1], fewer, 200);
        }
      }
      System.gc();
      System.out.println(json(answer(words[0], words[1], numbers, 1_500)));
    }
  }

  private static Map<String, double[]> answer(
      String workload, String contestant, int[] numbers, int lead) throws InterruptedException {
    return switch (workload) {
      case "insert" -> Timers.insert(contestant, numbers[0], numbers[1]);
      case "churn" -> Timers.churn(contestant, numbers[0], numbers[1]);
      case "storm" -> Timers.storm(contestant, numbers[0], lead);
      case "pool" -> Pools.run(contestant, numbers[0], numbers[1]);
      default -> throw new IllegalArgumentException(workload);
    };
  }

  private static String json(Map<String, double[]> figures) {
    return figures.entrySet().stream()
        .map(figure -> '"' + figure.getKey() + "\": " + Arrays.toString(figure.getValue()))
        .collect(Collectors.joining(", ", "{", "}"));
  }

  /** Fails the benchmark: a workload that did not do its work has no figures. */
  static void check(boolean condition, String what) {
    if (!condition) {
      throw new AssertionError(what);
    }
  }
}
