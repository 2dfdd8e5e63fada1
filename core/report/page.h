// The report's page with its placeholders, made from page.html by CMake. Internal to core/report.
#ifndef NSIC_CORE_REPORT_PAGE_H_
#define NSIC_CORE_REPORT_PAGE_H_

namespace nsic {

// Placeholders: "@TITLE@" (HTML-escaped text, twice), "@DATA@" (JSON without '<'), "@THUMBNAILS@" (script elements).
extern const char kReportPage[];

}  // namespace nsic

#endif  // NSIC_CORE_REPORT_PAGE_H_
