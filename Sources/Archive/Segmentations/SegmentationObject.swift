public import DICOM
import Geometry
public import Imaging

/// Reads Segmentation and Label Map Segmentation objects (PS3.3 A.51, A.93).
///
/// - BINARY: a bit per voxel and segment.
/// - FRACTIONAL, probability or occupancy: a voxel belongs to the segment from half of Maximum Fractional Value (0062,000E) on.
/// - LABELMAP: the value is the segment's number; 0, the pixel padding value and values without a segment are background.
///
/// Segments may overlap; frames without any voxel of a segment may be missing.
public enum SegmentationObject {
    public static let sopClasses: Set<String> = ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"]

    /// The segmentation in a file: one map, two bytes a voxel, whatever the number of segments. What lies between frames takes no memory.
    public static func segmentation(inFileAt path: String) throws(DICOMError) -> Segmentation { try segmentation(try DataSet(path: path)) }

    public static func segmentation(_ object: DataSet) throws(DICOMError) -> Segmentation {
        let image = try object.imageDescription()
        guard image.samplesPerPixel == 1, !image.isFloat, image.bytesPerSample <= 2 else {
            throw DICOMError(code: "bad-attribute", message: "A segmentation has one integer sample of at most 16 bits per pixel (Bits Allocated (0028,0100)).")
        }
        let type = object.string(.segmentationType) ?? "BINARY"
        guard ["BINARY", "FRACTIONAL", "LABELMAP"].contains(type) else {
            throw DICOMError(code: "bad-attribute", message: "Segmentation Type (0062,0001) is neither BINARY nor FRACTIONAL nor LABELMAP.")
        }
        let segments = try Self.segments(object, isLabelMap: type == "LABELMAP")
        var indexOfNumber: [Int: Int] = [:]
        for (i, s) in segments.enumerated() {
            guard indexOfNumber.updateValue(i, forKey: s.number) == nil else {
                throw DICOMError(code: "bad-attribute", message: "Segment Number (0062,0004) \(s.number) is given twice.")
            }
        }

        let frames = try Self.frames(object, image)
        let grid = try SegmentationGrid(positions: frames.map(\.position), orientation: frames[0].orientation, spacing: frames[0].spacing,
                                        rows: image.rows, columns: image.columns, distances: frames[0].distances)
        for (i, f) in frames.enumerated() {
            guard (f.orientation.right - frames[0].orientation.right).length < 1e-3, (f.orientation.down - frames[0].orientation.down).length < 1e-3,
                  abs(f.spacing.row - frames[0].spacing.row) < 1e-3, abs(f.spacing.column - frames[0].spacing.column) < 1e-3 else {
                throw DICOMError(code: "bad-geometry", message: "Frame \(i + 1) of the segmentation has another orientation or spacing than the first. Export one object per orientation.")
            }
        }

        guard var builder = SegmentationBuilder(geometry: grid.geometry) else { throw .noMemory(for: grid.geometry) }
        let area = image.rows * image.columns
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: image.frameBytes, alignment: 16)
        defer { buffer.deallocate() }
        let tooMany = DICOMError(code: "too-large", message: "The segments overlap in more than 65535 different ways, more than is supported.")
        if type == "LABELMAP" {
            // Value → index of the segment.
            var index = [Int](repeating: -1, count: 1 << 16)
            for (number, i) in indexOfNumber where (1...65535).contains(number) { index[number] = i }
            if let padding = object.int(.pixelPaddingValue), (0...65535).contains(padding) { index[padding] = -1 }
            for f in frames.indices {
                try object.decodeFrame(f, into: buffer)
                let first = grid.slices[f] * area
                let bytes = image.bytesPerSample
                guard builder.add(first: first, count: area, segment: { i in
                    index[bytes == 1 ? Int(buffer[i]) : Int(buffer.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self))]
                }) else { throw tooMany }
            }
        } else {
            let half: Int
            if type == "FRACTIONAL" {
                guard let maximum = object.int(.maximumFractionalValue), (1...255).contains(maximum) else {
                    throw DICOMError(code: "missing-attribute", message: "A FRACTIONAL segmentation needs Maximum Fractional Value (0062,000E) from 1 to 255.")
                }
                half = (maximum + 1) / 2
            } else {
                half = 1
            }
            guard image.bytesPerSample == 1 else {
                throw DICOMError(code: "bad-attribute", message: "A \(type) segmentation has \(type == "BINARY" ? 1 : 8) bits per pixel (Bits Allocated (0028,0100)).")
            }
            for (f, frame) in frames.enumerated() {
                guard let number = frame.segment, let segment = indexOfNumber[number] else {
                    throw DICOMError(code: "bad-attribute", message: "Frame \(f + 1) has no Referenced Segment Number (0062,000B) of the Segment Sequence (0062,0002).")
                }
                try object.decodeFrame(f, into: buffer)
                guard builder.add(segment: segment, first: grid.slices[f] * area, from: half, mask: UnsafeRawBufferPointer(buffer)) else { throw tooMany }
            }
        }
        return builder.finish(series: object.string(.seriesInstanceUID) ?? "", frameOfReference: object.string(.frameOfReferenceUID) ?? "", segments: segments)
    }

    /// The fractions of one segment of a FRACTIONAL object, probability or occupancy, as a volume of values 0…1; 0 where frames are missing.
    public static func fractions(_ object: DataSet, segment number: Int) throws(DICOMError) -> Volume {
        let image = try object.imageDescription()
        guard object.string(.segmentationType) == "FRACTIONAL", image.bytesPerSample == 1, image.samplesPerPixel == 1,
              let maximum = object.int(.maximumFractionalValue), (1...255).contains(maximum) else {
            throw DICOMError(code: "bad-attribute", message: "Only a FRACTIONAL segmentation (0062,0001) of 8 bits with Maximum Fractional Value (0062,000E) has fractions.")
        }
        guard let segment = try segments(object, isLabelMap: false).first(where: { $0.number == number }) else {
            throw DICOMError(code: "bad-attribute", message: "The segmentation has no segment \(number) (0062,0004).")
        }
        let frames = try Self.frames(object, image)
        let grid = try SegmentationGrid(positions: frames.map(\.position), orientation: frames[0].orientation, spacing: frames[0].spacing,
                                        rows: image.rows, columns: image.columns, distances: frames[0].distances)
        var description = Volume.Description(id: .init(series: object.string(.seriesInstanceUID) ?? "", index: number), geometry: grid.geometry, format: .float32)
        description.modality = "SEG"
        description.frameOfReference = object.string(.frameOfReferenceUID) ?? ""
        description.windows = [Window(center: 0.5, width: 1, function: .linearExact)]
        description.remarks = [.init(.information, "fractions", "\(object.string(Tag(0x0062, 0x0010)) == "OCCUPANCY" ? "Occupancy" : "Probability") of segment \(number), \(segment.label).")]
        guard let volume = Volume(description) else { throw DICOMError(code: "out-of-memory", message: "There is no memory for the fractions of segment \(number).") }
        let area = image.rows * image.columns
        var ranges = [ClosedRange<Double>](repeating: 0...0, count: grid.geometry.slices)
        for (f, frame) in frames.enumerated() where frame.segment == number {
            let samples = try object.frame(f), slice = grid.slices[f], target = volume.voxels.float32 + slice * area
            for i in 0..<area { target[i] = Float(samples[i]) / Float(maximum) }
            ranges[slice] = Double(samples.min() ?? 0) / Double(maximum)...Double(samples.max() ?? 0) / Double(maximum)
        }
        for (slice, range) in ranges.enumerated() { volume.finishSlice(slice, range: range) }
        return volume
    }

    private static func segments(_ object: DataSet, isLabelMap: Bool) throws(DICOMError) -> [Segmentation.Segment] {
        var result: [Segmentation.Segment] = []
        for item in try object.checkedItems(.segmentSequence) {
            guard let number = item.int(.segmentNumber), (0...65535).contains(number) else {
                throw DICOMError(code: "missing-attribute", message: "A segment has no Segment Number (0062,0004).")
            }
            // PS3.3 C.8.20.4: number 0 of a label map is its background.
            if isLabelMap, number == 0 { continue }
            let color = DisplayColor.sRGB(lab16: item.doubles(.recommendedDisplayCIELabValue)) ?? DisplayColor.distinct(number)
            result.append(.init(number: number, label: item.string(.segmentLabel) ?? "", color: color))
        }
        guard !result.isEmpty else { throw DICOMError(code: "missing-attribute", message: "The segmentation has no segments (Segment Sequence (0062,0002)).") }
        return result
    }

    private struct Frame {
        var position: Point<Patient>
        var orientation: (right: Vector<Patient>, down: Vector<Patient>)
        var spacing: (row: Double, column: Double)
        var distances: [Double]
        var segment: Int?
    }

    /// Place and segment of each frame, from its own functional groups, else from the shared ones.
    private static func frames(_ object: DataSet, _ image: ImageDescription) throws(DICOMError) -> [Frame] {
        let shared = try object.checkedItems(.sharedFunctionalGroupsSequence).first
        let own = try object.checkedItems(.perFrameFunctionalGroupsSequence)
        guard own.count == image.frames else {
            throw DICOMError(code: "bad-attribute", message: "The segmentation has \(image.frames) frames, but Per-Frame Functional Groups Sequence (5200,9230) has \(own.count) items.")
        }
        // Groups that all frames share are read once.
        let sharedOrientation = shared?.items(.planeOrientationSequence).first?.doubles(.imageOrientationPatient)
        let sharedMeasures = shared?.items(.pixelMeasuresSequence).first.map(Self.measures)
        let sharedPosition = shared?.items(.planePositionSequence).first?.doubles(.imagePositionPatient)
        let sharedSegment = shared?.items(.segmentIdentificationSequence).first?.int(.referencedSegmentNumber)
        var frames: [Frame] = []
        frames.reserveCapacity(own.count)
        for (i, group) in own.enumerated() {
            let orientation = group.items(.planeOrientationSequence).first?.doubles(.imageOrientationPatient) ?? sharedOrientation ?? []
            let measures = group.items(.pixelMeasuresSequence).first.map(Self.measures) ?? sharedMeasures ?? ([], [])
            let position = group.items(.planePositionSequence).first?.doubles(.imagePositionPatient) ?? sharedPosition ?? []
            guard orientation.count == 6, measures.spacing.count == 2, position.count == 3, (orientation + measures.spacing + position).allSatisfy(\.isFinite) else {
                throw DICOMError(code: "missing-attribute", message: "Frame \(i + 1) of the segmentation has no place in the patient: Plane Position (0020,9113), Plane Orientation (0020,9116) and Pixel Measures (0028,9110) are needed.")
            }
            frames.append(Frame(
                position: Point(position[0], position[1], position[2]),
                orientation: (Vector(orientation[0], orientation[1], orientation[2]), Vector(orientation[3], orientation[4], orientation[5])),
                spacing: (measures.spacing[0], measures.spacing[1]), distances: measures.distances,
                segment: group.items(.segmentIdentificationSequence).first?.int(.referencedSegmentNumber) ?? sharedSegment))
        }
        return frames
    }

    private static func measures(_ item: DataSet) -> (spacing: [Double], distances: [Double]) {
        (item.doubles(.pixelSpacing), [item.double(.spacingBetweenSlices), item.double(.sliceThickness)].compactMap { $0.map(abs) })
    }
}
