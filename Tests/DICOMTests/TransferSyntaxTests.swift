import DICOM
import Foundation
import TestSupport
import Testing

/// One row of an `expected.csv`: what another reader decoded.
struct ReferenceEntry {
    let set: String
    let file: String
    let transferSyntax: String
    let shape: [Int]
    let type: String
    let minimum: Double
    let maximum: Double
    let mean: Double
    let samples: [Double]
    let hash: String
    let note: String

    var path: String { TestData.path("\(set)/\(file)") }

    static func all(of set: String) throws -> [ReferenceEntry] {
        let text = try String(contentsOfFile: TestData.path("\(set)/expected.csv"), encoding: .utf8)
        return text.split(whereSeparator: \.isNewline).dropFirst().map { line in
            let fields = line.split(separator: ",", maxSplits: 10, omittingEmptySubsequences: false).map(String.init)
            return ReferenceEntry(
                set: set, file: fields[0], transferSyntax: fields[1], shape: fields[3].split(separator: "x").compactMap { Int($0) }, type: fields[4],
                minimum: Double(fields[5]) ?? .nan, maximum: Double(fields[6]) ?? .nan, mean: Double(fields[7]) ?? .nan,
                samples: fields[8].split(separator: " ").compactMap { Double($0) }, hash: fields[9], note: fields[10].trimmingCharacters(in: ["\"", "\r"]))
        }
    }
}

/// Every file of both codec sets decodes to what independent readers found, or is refused for a stated reason; the table
/// in the documentation says which, and this test keeps it true.
@Suite struct TransferSyntaxTests {
    static let sets = ["codecs_ct_reference", "codecs_pydicom"]

    /// Files that are refused although another reader made something of them, and those that no reader decoded.
    static let refusals: [String: (code: String, reason: String)] = [
        "test_files/JPEG-lossy.dcm": ("decode-failed", "the entropy-coded data is damaged: the codec would have to invent part of the picture"),
        "test_files/MR_truncated.dcm": ("truncated", "the last 62 bytes of the pixel data are missing"),
        "test_files/SC_rgb_jpeg.dcm": ("malformed", "the data set is implicit VR, but its transfer syntax says explicit"),
        "test_files/badVR.dcm": ("bad-attribute", "Number of Frames is “1A”"),
        "test_files/meta_missing_tsyntax.dcm": ("missing-transfer-syntax", "Transfer Syntax UID is missing"),
        "test_files/nested_priv_SQ.dcm": ("missing-attribute", "no Rows, Columns or Bits Allocated"),
        "test_files/JPEG2000-embedded-sequence-delimiter.dcm": ("decode-failed", "not a whole codestream; no other reader decodes it"),
    ]

    /// Decoded here, but not by the readers that made the reference; where the same picture exists in another coding, its hash.
    static let alsoDecoded: [String: String?] = [
        "data_store/OT-PAL-8-face.dcm": nil,
        "data_store/liver_deflate.dcm": "86ceb97b138085d01b005c48e893bb43",
        "data_store/liver_nonbyte_aligned_deflate.dcm": "842dd64c92ce1a92a823bd219ae4a079",
        "data_store/liver_rle.dcm": "86ceb97b138085d01b005c48e893bb43",
        "data_store/liver_nonbyte_aligned_rle.dcm": "842dd64c92ce1a92a823bd219ae4a079",
    ]

    @Test(.enabled(if: sets.allSatisfy(TestData.has))) func everyReferenceFileDecodesExactlyOrIsRefusedAsDocumented() throws {
        var rows: [String] = []
        for set in Self.sets {
            for entry in try ReferenceEntry.all(of: set) { rows.append(try check(entry)) }
        }
        #expect(rows.count > 100)
        let table = """
            # Transfer syntaxes

            What becomes of every file of the two codec test sets. `exact`: the samples have the hash that independent readers
            found. `lossy`: two decoders of a lossy coding may differ by a grey value or two; the figures are against the same
            reference. A refused file ends in the typed error named, which also reaches the import report.
            This page is written and checked by `TransferSyntaxTests`.

            | File | Transfer syntax | Outcome | Remark |
            |---|---|---|---|
            \(rows.joined(separator: "\n"))

            """
        let page = TestData.packageRoot.appending(path: "Documentation/TransferSyntaxes.md")
        if ProcessInfo.processInfo.environment["TOMOS_UPDATE_DOCUMENTATION"] == "1" {
            try FileManager.default.createDirectory(at: page.deletingLastPathComponent(), withIntermediateDirectories: true)
            try table.write(to: page, atomically: true, encoding: .utf8)
        }
        let documented = try? String(contentsOf: page, encoding: .utf8)
        #expect(documented == table, "Documentation/TransferSyntaxes.md is not what the decoders do: run the test with TOMOS_UPDATE_DOCUMENTATION=1 and review the change.")
    }

    private func check(_ entry: ReferenceEntry) throws -> String {
        func row(_ outcome: String, _ remark: String = "") -> String { "| \(entry.set)/\(entry.file) | \(entry.transferSyntax) | \(outcome) | \(remark) |" }
        let file = Comment(rawValue: entry.file)
        do {
            let dataSet = try DataSet(path: entry.path)
            let image = try dataSet.imageDescription()
            var samples: [UInt8] = []
            for index in 0..<image.frames { samples += try dataSet.frame(index, keepingYBR: true) }
            let hash = String(sha256(samples).prefix(32))
            #expect(Self.refusals[entry.file] == nil, file)
            if entry.hash.isEmpty {
                let other = try #require(Self.alsoDecoded[entry.file], file)
                if let other { #expect(hash == other, file) }
                return row("decoded", other == nil ? "no other reader to compare with" : "equal to the same picture in another coding")
            }
            if hash == entry.hash { return row("exact") }
            // Only codings that lose information may differ, and only as two conforming decoders do.
            let isLossy = ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55", "1.2.840.10008.1.2.4.91"].contains(entry.transferSyntax)
            #expect(isLossy, file)
            let values = numbers(samples, image)
            #expect(values.count == entry.shape.reduce(1, *), file)
            let mean = values.reduce(0, +) / Double(values.count)
            let (least, most) = (values.min() ?? .nan, values.max() ?? .nan)
            #expect(abs(mean - entry.mean) < 0.05 && abs(least - entry.minimum) <= 2 && abs(most - entry.maximum) <= 2, "\(entry.file): mean \(mean), range \(least)…\(most)")
            for (value, expected) in zip([values[0], values[values.count / 2], values[values.count - 1]], entry.samples) { #expect(abs(value - expected) <= 2, file) }
            return row("lossy", "mean \(rounded(mean)) (reference \(rounded(entry.mean))), range \(Int(least))…\(Int(most)) (\(Int(entry.minimum))…\(Int(entry.maximum)))")
        } catch let error as DICOMError {
            let refusal = try #require(Self.refusals[entry.file], "\(entry.file): \(error)")
            #expect(error.code == refusal.code, file)
            return row("refused: `\(error.code)`", refusal.reason)
        }
    }

    /// No public file has the HTJ2K syntax for progressive retrieval (.202). Its codestreams are those of .201 with the packets in a
    /// stated order, and say so themselves: the same stream under either name is the same picture.
    @Test(.enabled(if: TestData.has("codecs_pydicom"))) func theHTJ2KSyntaxForProgressiveRetrievalIsDecoded() throws {
        let path = TestData.path("codecs_pydicom/data_store/HTJ2KLossless_08_RGB.dcm")
        var bytes = [UInt8](try Data(contentsOf: URL(filePath: path)))
        let name = Array("1.2.840.10008.1.2.4.201".utf8)
        let place = try #require(bytes.indices.first { bytes[$0...].starts(with: name) })
        bytes[place + name.count - 1] = UInt8(ascii: "2")
        let renamed = try DataSet(bytes: bytes)
        #expect(renamed.transferSyntax == "1.2.840.10008.1.2.4.202")
        #expect(try renamed.frame(0) == (try DataSet(path: path).frame(0)))
    }

    private func rounded(_ value: Double) -> String { String(format: "%.3f", value) }

    private func numbers(_ bytes: [UInt8], _ image: ImageDescription) -> [Double] {
        bytes.withUnsafeBytes { raw in
            switch (image.bytesPerSample, image.isSigned) {
            case (1, false): raw.map { Double($0) }
            case (1, true): raw.bindMemory(to: Int8.self).map { Double($0) }
            case (2, false): raw.bindMemory(to: UInt16.self).map { Double($0) }
            case (2, true): raw.bindMemory(to: Int16.self).map { Double($0) }
            default: raw.bindMemory(to: UInt32.self).map { Double($0) }
            }
        }
    }

    /// The stated bounds of `expected.csv`: largest and mean difference in Hounsfield units to the uncompressed slice.
    @Test(.enabled(if: TestData.has("codecs_ct_reference"))) func lossyCTStaysWithinTheStatedDifference() throws {
        func rescaled(_ path: String) throws -> [Double] {
            let dataSet = try DataSet(path: path)
            let slope = dataSet.double(.rescaleSlope) ?? 1, intercept = dataSet.double(.rescaleIntercept) ?? 0
            return numbers(try dataSet.frame(0), try dataSet.imageDescription()).map { $0 * slope + intercept }
        }
        let original = try rescaled(TestData.path("codecs_ct_reference/CTImage.dcm"))
        var compared = 0
        for entry in try ReferenceEntry.all(of: "codecs_ct_reference") {
            guard let match = entry.note.firstMatch(of: /max abs difference to CTImage.dcm: ([0-9.]+), mean ([0-9.]+)/), let largest = Double(match.1), let mean = Double(match.2) else { continue }
            let differences = zip(try rescaled(entry.path), original).map { abs($0 - $1) }
            #expect((differences.max() ?? .infinity) <= largest + 2, "\(entry.file)")
            #expect(differences.reduce(0, +) / Double(differences.count) <= mean + 0.05, "\(entry.file)")
            compared += 1
        }
        #expect(compared == 16)
    }
}
