import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.RandomAccessFile;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import org.neo4j.configuration.Config;
import org.neo4j.configuration.GraphDatabaseSettings;
import org.neo4j.configuration.connectors.BoltConnector;
import org.neo4j.consistency.ConsistencyCheckService;
import org.neo4j.consistency.checking.ConsistencyFlags;
import org.neo4j.dbms.DatabaseStateService;
import org.neo4j.dbms.api.DatabaseManagementService;
import org.neo4j.dbms.api.DatabaseManagementServiceBuilder;
import org.neo4j.graphdb.Direction;
import org.neo4j.graphdb.Entity;
import org.neo4j.graphdb.GraphDatabaseService;
import org.neo4j.graphdb.Label;
import org.neo4j.graphdb.Node;
import org.neo4j.graphdb.Relationship;
import org.neo4j.graphdb.RelationshipType;
import org.neo4j.graphdb.Transaction;
import org.neo4j.graphdb.schema.IndexDefinition;
import org.neo4j.graphdb.schema.IndexType;
import org.neo4j.graphdb.spatial.Point;
import org.neo4j.io.layout.recordstorage.RecordDatabaseLayout;
import org.neo4j.io.pagecache.context.CursorContext;
import org.neo4j.kernel.database.NamedDatabaseId;
import org.neo4j.kernel.impl.api.index.IndexProxy;
import org.neo4j.kernel.impl.api.index.IndexingService;
import org.neo4j.kernel.impl.coreapi.schema.IndexDefinitionImpl;
import org.neo4j.kernel.internal.GraphDatabaseAPI;
import org.neo4j.storageengine.api.TransactionIdStore;
import org.neo4j.token.TokenHolders;
import org.neo4j.values.storable.Values;

/**
 * Judges restored Neo4j homes, one after the other, in one JVM. It opens the database embedded, compares all data
 * with what the write load promises (load.ts), compares every index with a scan of the whole store, closes the
 * database and runs the stock consistency check.
 *
 * Protocol: one request a line on stdin, `name=value` fields between tabs; one JSON object a line on stdout.
 */
@SuppressWarnings({"removal", "rawtypes", "unchecked"})
public final class Judge {
    private static final String DATABASE = "neo4j";
    private static final int MOST_PROBLEMS_PER_KIND = 12;
    private static final int MOST_REPORT_CHARACTERS = 20_000;

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        // Whatever the server code prints must not get between the answers.
        System.setOut(System.err);
        BufferedReader requests =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        answers.println("{\"ready\":true}");
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            Map<String, String> request = new HashMap<>();
            for (String field : line.split("\t")) {
                int equals = field.indexOf('=');
                if (equals > 0) {
                    request.put(field.substring(0, equals), field.substring(equals + 1));
                }
            }
            Map<String, Object> answer;
            try {
                answer = new Judgement(request).run();
            } catch (Throwable error) {
                answer = new LinkedHashMap<>();
                answer.put("opened", false);
                answer.put("error", "the judge itself failed: " + textOf(error));
            }
            StringBuilder text = new StringBuilder();
            writeJson(text, answer);
            answers.println(text);
        }
    }

    static String textOf(Throwable error) {
        StringWriter text = new StringWriter();
        error.printStackTrace(new PrintWriter(text));
        String whole = text.toString();
        return whole.length() > MOST_REPORT_CHARACTERS ? whole.substring(0, MOST_REPORT_CHARACTERS) : whole;
    }

    /** The messages of an error and its causes in one line each: what a person wants to read first. */
    static String causesOf(Throwable error) {
        StringBuilder text = new StringBuilder();
        for (Throwable cause = error; cause != null && text.length() < 4_000; cause = cause.getCause()) {
            text.append(text.length() == 0 ? "" : "\n  caused by ")
                    .append(cause.getClass().getSimpleName())
                    .append(": ")
                    .append(cause.getMessage());
        }
        return text.toString();
    }

    static void writeJson(StringBuilder out, Object value) {
        if (value == null || value instanceof Boolean || value instanceof Number) {
            out.append(value);
        } else if (value instanceof Map<?, ?> map) {
            out.append('{');
            String separator = "";
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                out.append(separator);
                writeJson(out, String.valueOf(entry.getKey()));
                out.append(':');
                writeJson(out, entry.getValue());
                separator = ",";
            }
            out.append('}');
        } else if (value instanceof Collection<?> list) {
            out.append('[');
            String separator = "";
            for (Object item : list) {
                out.append(separator);
                writeJson(out, item);
                separator = ",";
            }
            out.append(']');
        } else {
            out.append('"');
            for (char character : value.toString().toCharArray()) {
                if (character == '"' || character == '\\') {
                    out.append('\\').append(character);
                } else if (character < 0x20 || character > 0x7e) {
                    out.append(String.format("\\u%04x", (int) character));
                } else {
                    out.append(character);
                }
            }
            out.append('"');
        }
    }

    /** Counts problems by kind and keeps the text of the first few. */
    private static final class Problems {
        private final Map<String, Long> counts = new LinkedHashMap<>();
        private final List<String> texts = new ArrayList<>();

        void add(String kind, String text) {
            long count = counts.merge(kind, 1L, Long::sum);
            if (count <= MOST_PROBLEMS_PER_KIND) {
                texts.add(kind + ": " + text);
            }
        }

        long count(String kind) {
            return counts.getOrDefault(kind, 0L);
        }
    }

    private static final class WriterFacts {
        final BitSet sequences = new BitSet();
        final BitSet notes = new BitSet();
        long transfers;
        final Map<Long, long[]> batches = new HashMap<>();
    }

    private static final class Judgement {
        private final Map<String, String> request;
        private final Path home;
        private final Map<String, Object> answer = new LinkedHashMap<>();
        private final Problems problems = new Problems();
        private final Map<String, Object> timings = new LinkedHashMap<>();

        Judgement(Map<String, String> request) {
            this.request = request;
            this.home = Path.of(request.get("home"));
        }

        private boolean flag(String name) {
            return Boolean.parseBoolean(request.getOrDefault(name, "true"));
        }

        private long number(String name) {
            return Long.parseLong(request.get(name));
        }

        private Path configurationFile() {
            return home.resolve("conf").resolve("neo4j.conf");
        }

        Map<String, Object> run() {
            answer.put("opened", false);
            long startNanos = System.nanoTime();
            boolean closed = openAndLook();
            timings.put("openAndLookMs", (System.nanoTime() - startNanos) / 1_000_000);
            if (closed && flag("consistencyCheck")) {
                long checkNanos = System.nanoTime();
                checkConsistency();
                timings.put("consistencyCheckMs", (System.nanoTime() - checkNanos) / 1_000_000);
            }
            timings.put("totalMs", (System.nanoTime() - startNanos) / 1_000_000);
            answer.put("problemCounts", problems.counts);
            answer.put("problems", problems.texts);
            answer.put("timings", timings);
            return answer;
        }

        /** Gives false when the database could not be closed, so that its files must be left alone. */
        private boolean openAndLook() {
            Path debugLog = home.resolve("logs").resolve("debug.log");
            long debugLogBytes = debugLog.toFile().length();
            DatabaseManagementService service = null;
            try {
                DatabaseManagementServiceBuilder builder = new DatabaseManagementServiceBuilder(home);
                if (Files.exists(configurationFile())) {
                    builder.loadPropertiesFromFile(configurationFile());
                }
                service = builder.setConfig(BoltConnector.enabled, false)
                        .setConfig(GraphDatabaseSettings.pagecache_memory, 128L * 1024 * 1024)
                        // A preallocated log costs 256 MiB of a memory file system for each judged home.
                        .setConfig(GraphDatabaseSettings.preallocate_logical_logs, false)
                        .build();
                GraphDatabaseService database = service.database(DATABASE);
                String failure = waitUntilAvailable(service, database);
                if (failure != null) {
                    answer.put("error", "the database is not available: " + failure);
                } else {
                    answer.put("opened", true);
                    look(database);
                }
            } catch (Throwable error) {
                if (Boolean.TRUE.equals(answer.get("opened"))) {
                    problems.add("read", causesOf(error) + "\n" + textOf(error));
                } else {
                    answer.put("error", causesOf(error));
                }
            }
            boolean closed = true;
            if (service != null) {
                try {
                    service.shutdown();
                } catch (Throwable error) {
                    closed = false;
                    problems.add("shutdown", causesOf(error));
                }
            }
            readDebugLog(debugLog, debugLogBytes);
            return closed;
        }

        /** Gives null when the database is available, else the reason why it is not and will not be. */
        private String waitUntilAvailable(DatabaseManagementService service, GraphDatabaseService database) {
            NamedDatabaseId id = ((GraphDatabaseAPI) database).databaseId();
            // The service has a type parameter in one line and none in the other.
            DatabaseStateService states = ((GraphDatabaseAPI) service.database("system"))
                    .getDependencyResolver()
                    .resolveDependency(DatabaseStateService.class);
            long deadlineNanos = System.nanoTime() + number("openTimeoutMs") * 1_000_000;
            while (!database.isAvailable(50)) {
                // A failed start stays failed: to wait for the availability would take the whole time limit.
                Optional<Throwable> cause = (Optional<Throwable>) states.causeOfFailure(id);
                if (cause.isPresent()) {
                    return causesOf(cause.get());
                }
                if (System.nanoTime() > deadlineNanos) {
                    return "no cause of failure, but not available in time";
                }
            }
            return null;
        }

        /** The log tells of populations and recoveries that were over before the first look at the states. */
        private void readDebugLog(Path file, long fromBytes) {
            boolean recovered = false;
            List<String> populated = new ArrayList<>();
            try (RandomAccessFile log = new RandomAccessFile(file.toFile(), "r")) {
                log.seek(fromBytes);
                byte[] bytes = new byte[(int) Math.min(log.length() - fromBytes, 32 * 1024 * 1024)];
                log.readFully(bytes);
                for (String line : new String(bytes, StandardCharsets.UTF_8).split("\n")) {
                    if (!line.contains("[" + DATABASE + "/")) {
                        continue;
                    }
                    if (line.contains("Recovery required from position")) {
                        recovered = true;
                    }
                    if (line.contains("Index population started")) {
                        populated.add(line.substring(line.indexOf("Index population started")).strip());
                    }
                }
            } catch (Exception error) {
                // No log: the database did not even get that far, and `error` says why.
            }
            answer.put("recovered", recovered);
            answer.put("populationsAtOpen", populated);
        }

        private void look(GraphDatabaseService database) {
            GraphDatabaseAPI internals = (GraphDatabaseAPI) database;
            answer.put(
                    "lastTransactionId",
                    internals.getDependencyResolver()
                            .resolveDependency(TransactionIdStore.class)
                            .getLastCommittedTransactionId());
            Map<String, String> statesAtOpen = indexStates(database);
            boolean allOnline = true;
            try (Transaction transaction = database.beginTx()) {
                transaction.schema().awaitIndexesOnline(number("indexTimeoutMs"), TimeUnit.MILLISECONDS);
            } catch (RuntimeException error) {
                allOnline = false;
                problems.add("index", "not all indexes came ONLINE: " + causesOf(error));
            }
            Map<String, String> states = allOnline ? statesAtOpen : indexStates(database);
            if (allOnline) {
                states = new HashMap<>(statesAtOpen);
                states.replaceAll((name, state) -> "ONLINE");
            }
            List<Object> indexes = new ArrayList<>();
            answer.put("indexes", indexes);
            long lookNanos = System.nanoTime();
            try (Transaction transaction = database.beginTx()) {
                Truth truth = new Truth(transaction);
                timings.put("scanMs", (System.nanoTime() - lookNanos) / 1_000_000);
                if (flag("loadInvariants")) {
                    judgeLoad(truth);
                }
                long indexNanos = System.nanoTime();
                for (IndexDefinition index : transaction.schema().getIndexes()) {
                    Map<String, Object> facts = new LinkedHashMap<>();
                    facts.put("name", index.getName());
                    facts.put("type", index.getIndexType().name());
                    facts.put("stateAtOpen", statesAtOpen.get(index.getName()));
                    facts.put("state", states.get(index.getName()));
                    boolean matches = false;
                    if ("ONLINE".equals(states.get(index.getName()))) {
                        try {
                            String difference = new IndexJudge(internals, transaction, truth, index).difference();
                            matches = difference == null;
                            if (difference != null) {
                                problems.add("index", index.getName() + " is not like a scan: " + difference);
                            }
                        } catch (Exception error) {
                            problems.add("index", index.getName() + " cannot be read: " + textOf(error));
                        }
                    }
                    facts.put("matchesScan", matches);
                    indexes.add(facts);
                }
                timings.put("indexesMs", (System.nanoTime() - indexNanos) / 1_000_000);
            }
        }

        private Map<String, String> indexStates(GraphDatabaseService database) {
            Map<String, String> states = new LinkedHashMap<>();
            try (Transaction transaction = database.beginTx()) {
                for (IndexDefinition index : transaction.schema().getIndexes()) {
                    states.put(index.getName(), transaction.schema().getIndexState(index).name());
                }
            }
            return states;
        }

        private void judgeLoad(Truth truth) {
            int settleAge = (int) number("settleAge");
            int noteKeep = (int) number("noteKeep");
            int noteArchiveAge = (int) number("noteArchiveAge");
            Map<Long, Long> openBalances = new HashMap<>();
            Map<Long, Node> accounts = new HashMap<>();
            long sum = 0;
            for (Node account : truth.nodes("Account")) {
                long id = asLong(account.getProperty("id", -1L));
                if (accounts.put(id, account) != null) {
                    problems.add("account", "id " + id + " is there twice");
                }
                sum += asLong(account.getProperty("balance", 0L));
                openBalances.put(account.getId(), number("openingBalance"));
            }
            answer.put("accounts", (long) accounts.size());
            answer.put("sum", sum);

            TreeMap<Long, WriterFacts> writers = new TreeMap<>();
            long halfTransfers = 0;
            for (Node transfer : truth.nodes("Transfer")) {
                long writer = asLong(transfer.getProperty("writer", -1L));
                long seq = asLong(transfer.getProperty("seq", -1L));
                String name = "transfer " + writer + "-" + seq + " (node " + transfer.getId() + ")";
                WriterFacts facts = writers.computeIfAbsent(writer, ignored -> new WriterFacts());
                facts.transfers++;
                if (seq < 1 || seq > Integer.MAX_VALUE) {
                    problems.add("transfer", name + " has no good sequence number");
                    continue;
                }
                if (facts.sequences.get((int) seq)) {
                    problems.add("duplicate", name + " is there twice");
                }
                facts.sequences.set((int) seq);
                long batch = asLong(transfer.getProperty("batch", -1L));
                long[] batchFacts = facts.batches.computeIfAbsent(batch, ignored -> new long[2]);
                batchFacts[0]++;
                batchFacts[1] = asLong(transfer.getProperty("batchSize", -1L));
                long amount = asLong(transfer.getProperty("amount", -1L));
                int payers = 0;
                int payees = 0;
                int others = 0;
                try {
                    for (Relationship relationship : transfer.getRelationships(Direction.BOTH)) {
                        boolean outgoing = relationship.getStartNode().getId() == transfer.getId();
                        long account = relationship.getEndNode().getId();
                        if (outgoing && relationship.isType(RelationshipType.withName("PAYER"))) {
                            payers++;
                            openBalances.computeIfPresent(account, (id, balance) -> balance - amount);
                            if (asLong(relationship.getProperty("amount", -1L)) != amount
                                    || asLong(relationship.getProperty("seq", -1L)) != seq) {
                                problems.add("transfer", name + ": properties of its PAYER relationship are wrong");
                            }
                        } else if (outgoing && relationship.isType(RelationshipType.withName("PAYEE"))) {
                            payees++;
                            openBalances.computeIfPresent(account, (id, balance) -> balance + amount);
                        } else {
                            others++;
                        }
                    }
                } catch (RuntimeException error) {
                    // One broken chain must not hide what else is wrong.
                    problems.add("read", name + ": " + causesOf(error));
                }
                if (payers != 1 || payees != 1 || others != 0) {
                    halfTransfers++;
                    problems.add(
                            "half",
                            name + " has " + payers + " PAYER, " + payees + " PAYEE, " + others + " other relationships");
                }
                judgeTransferProperties(transfer, name, writer, seq, amount);
            }
            for (Node account : truth.nodes("Account")) {
                long expected = openBalances.get(account.getId());
                long balance = asLong(account.getProperty("balance", 0L));
                if (expected != balance) {
                    problems.add(
                            "balance",
                            "account " + account.getProperty("id", -1L) + " has " + balance
                                    + ", its transfers say " + expected);
                }
            }
            for (Node note : truth.nodes("Note")) {
                long writer = asLong(note.getProperty("writer", -1L));
                long seq = asLong(note.getProperty("seq", -1L));
                WriterFacts facts = writers.computeIfAbsent(writer, ignored -> new WriterFacts());
                if (seq < 1 || seq > Integer.MAX_VALUE || facts.notes.get((int) seq)) {
                    problems.add("note", "note " + writer + "-" + seq + " is there twice or has a bad number");
                    continue;
                }
                facts.notes.set((int) seq);
                try {
                    int degree = note.getDegree();
                    if (degree != 1 || note.getDegree(RelationshipType.withName("ABOUT"), Direction.OUTGOING) != 1) {
                        problems.add("note", "note " + writer + "-" + seq + " has " + degree + " relationships");
                    }
                } catch (RuntimeException error) {
                    problems.add("read", "note " + writer + "-" + seq + ": " + causesOf(error));
                }
            }

            Map<String, Object> maximums = new LinkedHashMap<>();
            long gaps = 0;
            long halfBatches = 0;
            for (Map.Entry<Long, WriterFacts> entry : writers.entrySet()) {
                long writer = entry.getKey();
                WriterFacts facts = entry.getValue();
                int maximum = facts.sequences.length() - 1;
                maximums.put(Long.toString(writer), (long) Math.max(maximum, 0));
                for (int seq = facts.sequences.nextClearBit(1); seq < maximum; seq = facts.sequences.nextClearBit(seq + 1)) {
                    gaps++;
                    problems.add("gap", "writer " + writer + " has up to " + maximum + " but not " + seq);
                }
                for (Map.Entry<Long, long[]> batch : facts.batches.entrySet()) {
                    if (batch.getValue()[0] != batch.getValue()[1]) {
                        halfBatches++;
                        problems.add(
                                "half",
                                "batch " + writer + "-" + batch.getKey() + " has " + batch.getValue()[0] + " of "
                                        + batch.getValue()[1] + " transfers");
                    }
                }
                BitSet expectedNotes = new BitSet();
                expectedNotes.set(Math.max(1, maximum - noteKeep + 1), Math.max(maximum, 0) + 1);
                if (!expectedNotes.equals(facts.notes)) {
                    BitSet difference = (BitSet) expectedNotes.clone();
                    difference.xor(facts.notes);
                    problems.add(
                            "note",
                            "writer " + writer + " with " + maximum + " transfers: " + difference.cardinality()
                                    + " notes are missing or too many, the first is " + difference.nextSetBit(0));
                }
            }
            for (Node transfer : truth.nodes("Transfer")) {
                long seq = asLong(transfer.getProperty("seq", -1L));
                WriterFacts facts = writers.get(asLong(transfer.getProperty("writer", -1L)));
                boolean settled = seq <= facts.sequences.length() - 1 - settleAge;
                Object settlement = transfer.getProperty("settlement", null);
                String expected = settled ? "settled " + transfer.getProperty("memo", null) : null;
                if (transfer.hasLabel(Label.label("Settled")) != settled || !Objects.equals(settlement, expected)) {
                    problems.add("settled", "transfer " + transfer.getProperty("key", "?") + " is not as its age asks");
                }
                long[] numbers = transfer.getProperty("numbers", null) instanceof long[] array ? array : new long[0];
                boolean good = numbers.length == (settled ? 1 : 1 + seq % 40);
                for (int index = 0; index < numbers.length; index++) {
                    good &= numbers[index] == seq * 1_000 + index;
                }
                if (!good) {
                    problems.add("property", "transfer " + transfer.getProperty("key", "?") + " has a wrong array");
                }
            }
            for (Node note : truth.nodes("Note")) {
                long seq = asLong(note.getProperty("seq", -1L));
                WriterFacts facts = writers.get(asLong(note.getProperty("writer", -1L)));
                boolean archived = seq <= facts.sequences.length() - 1 - noteArchiveAge;
                if (note.hasLabel(Label.label("Archived")) != archived
                        || note.hasLabel(Label.label("Fresh")) == archived
                        || "archived".equals(note.getProperty("body", "")) != archived) {
                    problems.add("note", "note " + note.getProperty("writer", "?") + "-" + seq + " has wrong labels");
                }
            }
            long transfers = truth.nodes("Transfer").size();
            long notes = truth.nodes("Note").size();
            for (Map.Entry<String, Long> expected :
                    Map.of("PAYER", transfers, "PAYEE", transfers, "ABOUT", notes).entrySet()) {
                long count = truth.relationships(expected.getKey()).size();
                if (count != expected.getValue()) {
                    problems.add(
                            "relationship",
                            "a scan finds " + count + " " + expected.getKey() + ", expected " + expected.getValue());
                }
            }
            if (truth.allNodes.size() != accounts.size() + transfers + notes) {
                problems.add("node", "there are nodes that the load never made");
            }
            answer.put("transfers", transfers);
            answer.put("halfTransfers", halfTransfers);
            answer.put("halfBatches", halfBatches);
            answer.put("gaps", gaps);
            answer.put("duplicates", problems.count("duplicate"));
            answer.put("maxSequenceByWriter", maximums);
        }

        private void judgeTransferProperties(Node transfer, String name, long writer, long seq, long amount) {
            String unit = "writer " + writer + " transfer " + seq + " ";
            int units = seq % 2 == 0 ? 1 : (int) ceil(121 + (seq % 7) * 40, unit.length());
            String memo = unit.repeat(units);
            String longText =
                    seq % 9 == 0 ? unit.repeat((int) ceil(2_000 + (seq % 5) * 1_500, unit.length())) : null;
            Point place = transfer.getProperty("place", null) instanceof Point point ? point : null;
            boolean placed = place != null
                    && place.getCoordinate().getCoordinate()[0] == (seq * 7 + writer) % 1_000
                    && place.getCoordinate().getCoordinate()[1] == (seq * 13 + writer * 3) % 1_000;
            if (!memo.equals(transfer.getProperty("memo", null))
                    || !Objects.equals(longText, transfer.getProperty("longText", null))
                    || !(writer + "-" + seq).equals(transfer.getProperty("key", null))
                    || amount != 1 + seq % 50
                    || !placed) {
                problems.add("property", name + " has a wrong property");
            }
        }

        private void checkConsistency() {
            answer.put("consistent", false);
            try {
                Config.Builder builder = Config.newBuilder();
                if (Files.exists(configurationFile())) {
                    builder.fromFile(configurationFile());
                }
                Config config = builder.set(GraphDatabaseSettings.neo4j_home, home)
                        .set(GraphDatabaseSettings.pagecache_memory, 64L * 1024 * 1024)
                        .build();
                Path reports = Files.createDirectories(home.resolve("check-reports"));
                ConsistencyCheckService.Result result = new ConsistencyCheckService(RecordDatabaseLayout.of(config))
                        .with(config)
                        .with(OutputStream.nullOutputStream())
                        .with(reports)
                        .with(ConsistencyFlags.ALL)
                        .withMaxOffHeapMemory(256L * 1024 * 1024)
                        .withNumberOfThreads(2)
                        .runFullConsistencyCheck();
                answer.put("consistent", result.isSuccessful());
                if (!result.isSuccessful()) {
                    String text = result.summary() + "\n";
                    if (result.reportFile() != null && Files.exists(result.reportFile())) {
                        text += Files.readString(result.reportFile());
                    }
                    answer.put("reportText", text.substring(0, Math.min(text.length(), MOST_REPORT_CHARACTERS)));
                }
            } catch (Throwable error) {
                answer.put("reportText", "the check did not run to its end: " + causesOf(error) + "\n" + textOf(error));
            }
        }
    }

    private static long ceil(long value, long divisor) {
        return (value + divisor - 1) / divisor;
    }

    private static long asLong(Object value) {
        return value instanceof Number number ? number.longValue() : Long.MIN_VALUE;
    }

    /** The content of the store by a scan of all records, with no index in between. */
    private static final class Truth {
        final List<Node> allNodes = new ArrayList<>();
        private final Map<String, List<Node>> nodesByLabel = new HashMap<>();
        private final Map<String, List<Relationship>> relationshipsByType = new HashMap<>();

        Truth(Transaction transaction) {
            try (var nodes = transaction.getAllNodes().iterator()) {
                while (nodes.hasNext()) {
                    Node node = nodes.next();
                    allNodes.add(node);
                    for (Label label : node.getLabels()) {
                        nodesByLabel.computeIfAbsent(label.name(), ignored -> new ArrayList<>()).add(node);
                    }
                }
            }
            try (var relationships = transaction.getAllRelationships().iterator()) {
                while (relationships.hasNext()) {
                    Relationship relationship = relationships.next();
                    relationshipsByType
                            .computeIfAbsent(relationship.getType().name(), ignored -> new ArrayList<>())
                            .add(relationship);
                }
            }
        }

        List<Node> nodes(String label) {
            return nodesByLabel.getOrDefault(label, List.of());
        }

        List<Relationship> relationships(String type) {
            return relationshipsByType.getOrDefault(type, List.of());
        }
    }

    /** Compares one index with the scan. */
    private static final class IndexJudge {
        private final GraphDatabaseAPI database;
        private final Transaction transaction;
        private final Truth truth;
        private final IndexDefinition index;

        IndexJudge(GraphDatabaseAPI database, Transaction transaction, Truth truth, IndexDefinition index) {
            this.database = database;
            this.transaction = transaction;
            this.truth = truth;
            this.index = index;
        }

        /** Gives null when index and scan agree. */
        String difference() throws Exception {
            IndexType type = index.getIndexType();
            if (type == IndexType.LOOKUP) {
                return lookupDifference();
            }
            if (type == IndexType.RANGE) {
                return rangeDifference();
            }
            if (type == IndexType.TEXT) {
                for (String needle : List.of("writer ", "transfer 7", "9 writer 2", "3 ")) {
                    String difference = predicateDifference(
                            "TEXT",
                            "x.`" + property() + "` CONTAINS $needle",
                            Map.of("needle", needle),
                            value -> value instanceof String text && text.contains(needle));
                    if (difference != null) {
                        return "CONTAINS '" + needle + "': " + difference;
                    }
                }
                return null;
            }
            if (type == IndexType.POINT) {
                for (double limit : new double[] {1_000_000, 500, 37}) {
                    String difference = predicateDifference(
                            "POINT",
                            "point.withinBBox(x.`" + property()
                                    + "`, point({x: -1.0, y: -1.0}), point({x: $limit, y: $limit}))",
                            Map.of("limit", limit),
                            value -> value instanceof Point point
                                    && point.getCoordinate().getCoordinate()[0] <= limit
                                    && point.getCoordinate().getCoordinate()[1] <= limit);
                    if (difference != null) {
                        return "up to " + limit + ": " + difference;
                    }
                }
                return null;
            }
            if (type == IndexType.FULLTEXT) {
                return fulltextDifference();
            }
            if (type == IndexType.VECTOR) {
                return vectorDifference();
            }
            return "there is no comparison for this type";
        }

        private String property() {
            return index.getPropertyKeys().iterator().next();
        }

        private List<? extends Entity> candidates() {
            return index.isNodeIndex()
                    ? truth.nodes(index.getLabels().iterator().next().name())
                    : truth.relationships(index.getRelationshipTypes().iterator().next().name());
        }

        private String pattern() {
            return index.isNodeIndex()
                    ? "(x:`" + index.getLabels().iterator().next().name() + "`)"
                    : "()-[x:`" + index.getRelationshipTypes().iterator().next().name() + "`]->()";
        }

        private String hint(String type, List<String> properties) {
            String token = index.isNodeIndex()
                    ? index.getLabels().iterator().next().name()
                    : index.getRelationshipTypes().iterator().next().name();
            return " USING " + type + " INDEX x:`" + token + "`(`" + String.join("`, `", properties) + "`) ";
        }

        private static Set<Long> idsOf(Collection<? extends Entity> entities) {
            Set<Long> ids = new HashSet<>();
            entities.forEach(entity -> ids.add(entity.getId()));
            return ids;
        }

        private static String compare(Set<Long> expected, List<Long> found) {
            Set<Long> foundSet = new HashSet<>(found);
            if (foundSet.equals(expected) && found.size() == expected.size()) {
                return null;
            }
            Set<Long> missing = new HashSet<>(expected);
            missing.removeAll(foundSet);
            Set<Long> extra = new HashSet<>(foundSet);
            extra.removeAll(expected);
            return "the index gives " + found.size() + ", the scan " + expected.size() + "; missing in the index "
                    + missing.size() + " such as " + missing.stream().limit(5).toList() + ", only in the index "
                    + extra.size() + " such as " + extra.stream().limit(5).toList();
        }

        private String lookupDifference() {
            if (index.isNodeIndex()) {
                for (Label label : transaction.getAllLabels()) {
                    List<Long> found = new ArrayList<>();
                    try (var nodes = transaction.findNodes(label)) {
                        nodes.forEachRemaining(node -> found.add(node.getId()));
                    }
                    String difference = compare(idsOf(truth.nodes(label.name())), found);
                    if (difference != null) {
                        return "label " + label + ": " + difference;
                    }
                }
                return null;
            }
            for (RelationshipType type : transaction.getAllRelationshipTypes()) {
                List<Long> found = new ArrayList<>();
                try (var relationships = transaction.findRelationships(type)) {
                    relationships.forEachRemaining(relationship -> found.add(relationship.getId()));
                }
                String difference = compare(idsOf(truth.relationships(type.name())), found);
                if (difference != null) {
                    return "type " + type + ": " + difference;
                }
            }
            return null;
        }

        private String rangeDifference() {
            List<String> properties = new ArrayList<>();
            index.getPropertyKeys().forEach(properties::add);
            String where = String.join(
                    " AND ", properties.stream().map(name -> "x.`" + name + "` IS NOT NULL").toList());
            String values = String.join(", ", properties.stream().map(name -> "x.`" + name + "`").toList());
            // A range index holds the values, so the planner takes them from the index and not from the store.
            String query = "MATCH " + pattern() + hint("RANGE", properties) + "WHERE " + where
                    + " RETURN id(x) AS id, [" + values + "] AS values";
            Map<Long, List<Object>> expected = new HashMap<>();
            for (Entity entity : candidates()) {
                List<Object> row = new ArrayList<>();
                properties.forEach(name -> row.add(entity.getProperty(name, null)));
                if (!row.contains(null)) {
                    expected.put(entity.getId(), row);
                }
            }
            List<Long> found = new ArrayList<>();
            List<Long> wrongValues = new ArrayList<>();
            try (var rows = transaction.execute(query)) {
                while (rows.hasNext()) {
                    Map<String, Object> row = rows.next();
                    long id = asLong(row.get("id"));
                    found.add(id);
                    if (expected.containsKey(id) && !expected.get(id).equals(row.get("values"))) {
                        wrongValues.add(id);
                    }
                }
            }
            String difference = compare(expected.keySet(), found);
            if (difference == null && !wrongValues.isEmpty()) {
                return wrongValues.size() + " values differ, such as of " + wrongValues.get(0);
            }
            return difference;
        }

        private String predicateDifference(
                String type, String where, Map<String, Object> parameters, Predicate<Object> holds) {
            Set<Long> expected = new HashSet<>();
            for (Entity entity : candidates()) {
                if (holds.test(entity.getProperty(property(), null))) {
                    expected.add(entity.getId());
                }
            }
            String query = "MATCH " + pattern() + hint(type, List.of(property())) + "WHERE " + where
                    + " RETURN id(x) AS id";
            List<Long> found = new ArrayList<>();
            try (var rows = transaction.execute(query, parameters)) {
                rows.forEachRemaining(row -> found.add(asLong(row.get("id"))));
            }
            return compare(expected, found);
        }

        private String fulltextDifference() {
            Map<Long, Set<String>> words = new HashMap<>();
            for (Label label : index.getLabels()) {
                for (Node node : truth.nodes(label.name())) {
                    for (String name : index.getPropertyKeys()) {
                        if (node.getProperty(name, null) instanceof String text) {
                            words.computeIfAbsent(node.getId(), ignored -> new HashSet<>())
                                    .addAll(Arrays.asList(text.split(" ")));
                        }
                    }
                }
            }
            for (String word : List.of("*:*", "archived", "note", "7")) {
                Set<Long> expected = new HashSet<>();
                words.forEach((id, set) -> {
                    if (word.equals("*:*") || set.contains(word)) {
                        expected.add(id);
                    }
                });
                List<Long> found = new ArrayList<>();
                try (var rows = transaction.execute(
                        "CALL db.index.fulltext.queryNodes($name, $word) YIELD node RETURN id(node) AS id",
                        Map.of("name", index.getName(), "word", word))) {
                    rows.forEachRemaining(row -> found.add(asLong(row.get("id"))));
                }
                String difference = compare(expected, found);
                if (difference != null) {
                    return "query " + word + ": " + difference;
                }
            }
            return null;
        }

        /** A nearest-neighbour answer is approximate, so the entries themselves are counted as well. */
        private String vectorDifference() throws Exception {
            var resolver = database.getDependencyResolver();
            IndexProxy proxy = resolver.resolveDependency(IndexingService.class)
                    .getIndexProxy(((IndexDefinitionImpl) index).getIndexReference());
            int key = resolver.resolveDependency(TokenHolders.class).propertyKeyTokens().getIdByName(property());
            List<? extends Entity> candidates = candidates();
            List<Entity> withVector = new ArrayList<>();
            long missing = 0;
            long first = -1;
            try (var reader = proxy.newValueReader()) {
                for (Entity entity : candidates) {
                    Object vector = entity.getProperty(property(), null);
                    long count = reader.countIndexedEntities(
                            entity.getId(),
                            CursorContext.NULL_CONTEXT,
                            new int[] {key},
                            vector == null ? Values.NO_VALUE : Values.of(vector));
                    if (vector != null) {
                        withVector.add(entity);
                    }
                    if (count != (vector == null ? 0 : 1)) {
                        missing++;
                        first = entity.getId();
                    }
                }
            }
            if (missing > 0) {
                return missing + " of " + withVector.size() + " are not in the index exactly once, such as " + first;
            }
            Set<Long> known = idsOf(withVector);
            int step = Math.max(1, withVector.size() / 25);
            int asked = 0;
            int foundThemselves = 0;
            for (int position = 0; position < withVector.size(); position += step) {
                Entity entity = withVector.get(position);
                asked++;
                try (var rows = transaction.execute(
                        "CALL db.index.vector.queryNodes($name, 20, $vector) YIELD node RETURN id(node) AS id",
                        Map.of("name", index.getName(), "vector", entity.getProperty(property())))) {
                    while (rows.hasNext()) {
                        long id = asLong(rows.next().get("id"));
                        foundThemselves += id == entity.getId() ? 1 : 0;
                        if (!known.contains(id)) {
                            return "the index gives " + id + ", which has no vector";
                        }
                    }
                }
            }
            // The search is approximate: a right index misses one now and then, never most of them.
            if (foundThemselves * 10 < asked * 8) {
                return "only " + foundThemselves + " of " + asked + " vectors are found near themselves";
            }
            return null;
        }
    }
}
