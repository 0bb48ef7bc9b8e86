package horizon;

import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import org.apache.flink.runtime.checkpoint.Checkpoints;
import org.apache.flink.runtime.checkpoint.OperatorState;
import org.apache.flink.runtime.checkpoint.OperatorSubtaskState;
import org.apache.flink.runtime.checkpoint.metadata.CheckpointMetadata;
import org.apache.flink.runtime.state.OperatorStateHandle;

/**
 * What the sources of a job hold in a savepoint or a checkpoint, in hex, a line for each of their tasks.
 *
 * <p>Sources alone have state without a key, so nothing of what a record holds is among it, and no record can pass for a
 * place in the log. runners/resume.py finds the offsets in it. Argument: the snapshot's directory.
 */
public final class SavedState {
  private SavedState() {}

  public static void main(String[] arguments) throws Exception {
    Path directory = Path.of(arguments[0]);
    CheckpointMetadata found;
    try (InputStream file = Files.newInputStream(directory.resolve("_metadata"))) {
      found =
          Checkpoints.loadCheckpointMetadata(
              new DataInputStream(new BufferedInputStream(file)),
              SavedState.class.getClassLoader(),
              "file://" + directory);
    }
    for (OperatorState operator : found.getOperatorStates()) {
      for (OperatorSubtaskState task : operator.getStates()) {
        for (OperatorStateHandle handle : task.getManagedOperatorState()) {
          try (InputStream state = handle.openInputStream()) {
            System.out.println(HexFormat.of().formatHex(state.readAllBytes()));
          }
        }
      }
    }
  }
}
