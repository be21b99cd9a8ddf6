public import DICOM
public import Geometry
public import Imaging

/// An RT Structure Set (PS3.3 A.19): outlines drawn on images, and what they enclose on a volume's grid.
///
/// A voxel belongs to a region when its centre lies inside an odd number of the region's closed contours of one plane:
/// holes, keyholes and CLOSEDPLANAR_XOR come out alike. A centre exactly on an edge belongs to one of the two sides, so that
/// regions that share an edge share no voxel.
///
/// A plane of contours stands for the space up to halfway to its neighbours; at the ends of the region, and beside gaps, for
/// half the usual (median) distance of its planes. So volumes finer than the contours repeat the nearest one, and coarser
/// ones take the nearest. Points and open lines enclose nothing. Contours may lie in any plane of any volume.
public struct StructureSet: Sendable {
    public static let sopClass = "1.2.840.10008.5.1.4.1.1.481.3"

    struct Region: Sendable {
        var segment: Segmentation.Segment
        /// Closed contours with at least three points.
        var contours: [[Point<Patient>]]
        /// Largest Contour Slab Thickness (3006,0044), mm; `nil` when not given.
        var thickness: Double?
    }

    /// Series Instance UID (0020,000E).
    public let series: String
    /// Of the contours: Referenced Frame of Reference UID (3006,0024), else Frame of Reference UID (0020,0052).
    public let frameOfReference: String
    /// Series the contours were drawn on (3006,0014), most important first; they need not be stored here.
    public let referencedSeries: [String]
    let regions: [Region]

    /// Reads the file at `path`.
    public init(inFileAt path: String) throws(DICOMError) { try self.init(try DataSet(path: path)) }

    public init(_ object: DataSet) throws(DICOMError) {
        series = object.string(.seriesInstanceUID) ?? ""
        var references: [String] = [], frames: [String] = []
        for frame in object.items(.referencedFrameOfReferenceSequence) {
            frames += frame.strings(.frameOfReferenceUID).prefix(1)
            for study in frame.items(.rtReferencedStudySequence) {
                for series in study.items(.rtReferencedSeriesSequence) { references += series.strings(.seriesInstanceUID).prefix(1) }
            }
        }
        referencedSeries = references
        var regions: [Region] = [], index: [Int: Int] = [:]
        for item in try object.checkedItems(.structureSetROISequence) {
            guard let number = item.int(.roiNumber), index[number] == nil else {
                throw DICOMError(code: "bad-attribute", message: "ROI Number (3006,0022) is missing or given twice.")
            }
            index[number] = regions.count
            frames += item.strings(.referencedFrameOfReferenceUID).prefix(1)
            regions.append(Region(segment: .init(number: number, label: item.string(.roiName) ?? "", color: DisplayColor.distinct(number)), contours: [], thickness: nil))
        }
        guard !regions.isEmpty else { throw DICOMError(code: "missing-attribute", message: "The structure set has no regions (Structure Set ROI Sequence (3006,0020)).") }
        for item in try object.checkedItems(.roiContourSequence) {
            guard let number = item.int(.referencedROINumber), let r = index[number] else {
                throw DICOMError(code: "bad-attribute", message: "Referenced ROI Number (3006,0084) names no region of Structure Set ROI Sequence (3006,0020).")
            }
            let color = item.ints(.roiDisplayColor)
            if color.count == 3, color.allSatisfy({ (0...255).contains($0) }) { regions[r].segment.color = color.map { Double($0) / 255 } }
            for (c, contour) in try item.checkedItems(.contourSequence).enumerated() {
                let type = contour.string(.contourGeometricType) ?? ""
                guard type == "CLOSED_PLANAR" || type == "CLOSEDPLANAR_XOR" else { continue }
                let numbers = contour.doubles(.contourData)
                guard numbers.count % 3 == 0, numbers.allSatisfy(\.isFinite) else {
                    throw DICOMError(code: "bad-attribute", message: "Contour Data (3006,0050) of contour \(c + 1) of ROI \(number) is not made of points with three numbers.")
                }
                let points = stride(from: 0, to: numbers.count, by: 3).map { Point<Patient>(numbers[$0], numbers[$0 + 1], numbers[$0 + 2]) }
                // One or two points enclose nothing.
                if points.count >= 3 { regions[r].contours.append(points) }
                if let t = contour.double(.contourSlabThickness), t > 0, t.isFinite { regions[r].thickness = max(regions[r].thickness ?? 0, t) }
            }
        }
        self.regions = regions
        frameOfReference = Set(frames).count == 1 ? frames[0] : object.string(.frameOfReferenceUID) ?? frames.first ?? ""
    }

    /// The box around all contours in patient space; `nil` when there are none. For finding the volume they were drawn on.
    public var bounds: Box<Patient>? { Box(around: regions.lazy.flatMap(\.contours).joined()) }

    /// The regions on a grid: that of the volume they were drawn on, or any other of the same patient space.
    public func segmentation(on geometry: VolumeGeometry) throws(DICOMError) -> Segmentation {
        guard var builder = SegmentationBuilder(geometry: geometry) else { throw .noMemory(for: geometry) }
        for (index, region) in regions.enumerated() {
            try ContourRaster(region, on: geometry).add(to: &builder, segment: index)
        }
        return builder.finish(series: series, frameOfReference: frameOfReference, segments: regions.map(\.segment))
    }
}
